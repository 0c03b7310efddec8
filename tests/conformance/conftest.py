"""Runs the executable specification against the installed ray and counts what passes."""

import pytest

from conformance import not_yet

# A listed test may hang where it will later answer; it need not take its full minute for that.
LISTED_TIMEOUT_S = 20
listed = pytest.StashKey[set[str]]()
specified = pytest.StashKey[set[str]]()


def pytest_configure():
    not_yet.stand_in_for_missing_modules()


@pytest.hookimpl(tryfirst=True)  # before the folders' own conftest sets its time limit
def pytest_collection_modifyitems(config, items):
    entries = set(not_yet.entries())
    config.stash[listed] = set()
    config.stash[specified] = set()
    for item in items:
        name = not_yet.relative_id(item)
        if name is None or item.path.parent == not_yet.HERE:
            continue
        config.stash[specified].add(item.nodeid)
        if name in entries:
            config.stash[listed].add(name)
            item.add_marker(pytest.mark.xfail(reason="listed in not_yet.txt", strict=True))
            item.add_marker(pytest.mark.timeout(LISTED_TIMEOUT_S), append=False)


@pytest.fixture
def collected_entries(request):
    """The listed node ids that were found in this run."""
    return request.config.stash[listed]


def pytest_terminal_summary(terminalreporter, config):
    tests = config.stash.get(specified, set())
    if not tests:
        return
    passed = {report.nodeid for report in terminalreporter.getreports("passed")} & tests
    terminalreporter.section("conformance")
    terminalreporter.line(
        f"{len(passed)} of {len(tests)} tests of the specification pass,"
        f" {len(config.stash[listed])} are listed in not_yet.txt"
    )
