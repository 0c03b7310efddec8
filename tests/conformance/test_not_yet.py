"""The list of known failures must be true."""

import subprocess
import sys

from conformance import not_yet


def test_every_entry_names_a_test_or_a_file():
    wrong = [
        entry for entry in not_yet.entries() if not (not_yet.HERE / entry.split("::")[0]).exists()
    ]
    assert not wrong, "\n".join(wrong)


def test_no_entry_is_listed_twice():
    assert len(set(not_yet.entries())) == len(not_yet.entries())


def test_listed_files_still_cannot_be_imported():
    importable = [
        str(path)
        for path in not_yet.unimportable_files()
        if subprocess.run([sys.executable, path], capture_output=True).returncode == 0
    ]
    assert not importable, "take out of not_yet.txt:\n" + "\n".join(importable)


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
        if "::" in entry
        and entry.split("::")[0] in collected_files
        and entry not in collected_entries
    ]
    # A run of single tests collects only some tests of a file.
    if not any("::" in argument for argument in request.config.args):
        assert not unknown, "\n".join(unknown)
