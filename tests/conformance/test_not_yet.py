"""The list of known failures must be true."""

import subprocess
import sys

from conformance import not_yet


def test_every_entry_names_a_test():
    wrong = [
        entry
        for entry in not_yet.entries()
        if "::" not in entry or not (not_yet.HERE / entry.split("::")[0]).exists()
    ]
    assert not wrong, "\n".join(wrong)


def test_no_entry_is_listed_twice():
    assert len(set(not_yet.entries())) == len(not_yet.entries())


def test_modules_with_a_stand_in_are_still_missing():
    program = "from conformance import not_yet; print(*filter(not_yet.is_missing, sys.argv[1:]))"
    command = [sys.executable, "-c", f"import sys; {program}", *not_yet.MISSING_MODULES]
    missing = subprocess.run(command, capture_output=True, text=True, cwd=not_yet.HERE.parent)
    assert missing.stdout.split() == not_yet.MISSING_MODULES, missing.stderr


def test_listed_tests_of_collected_files_exist(request, collected_entries):
    """A renamed or mistyped test would otherwise stay on the list for ever."""
    collected_files = {
        str(item.path.relative_to(not_yet.HERE))
        for item in request.session.items
        if not_yet.relative_id(item) is not None
    }
    unknown = [
        entry
        for entry in not_yet.entries()
        if entry.split("::")[0] in collected_files and entry not in collected_entries
    ]
    # A run of single tests collects only some tests of a file.
    if not any("::" in argument for argument in request.config.args):
        assert not unknown, "\n".join(unknown)
