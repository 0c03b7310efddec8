"""The list of specification tests that are known not to pass yet; see not_yet.txt."""

import pathlib

HERE = pathlib.Path(__file__).resolve().parent


def entries() -> list[str]:
    lines = (HERE / "not_yet.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def unimportable_files() -> list[pathlib.Path]:
    return [HERE / entry for entry in entries() if "::" not in entry]


def tests_in(file: pathlib.Path) -> int:
    """How many test functions a file has that cannot be collected."""
    return file.read_text().count("\ndef test_")


def relative_id(item) -> str | None:
    """The node id of a pytest item relative to this folder; None for a test from elsewhere."""
    if HERE not in item.path.parents:
        return None
    _, _, name = item.nodeid.partition("::")
    return f"{item.path.relative_to(HERE)}::{name}"
