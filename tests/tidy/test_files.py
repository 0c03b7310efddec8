"""Rules for single files: names, header guards, protos."""

import re

import pytest

from tidy.tidy_files import ROOT, cpp_files, files_below

# A file is named after the thing it holds; these names hold anything.
VAGUE = {"utils", "util", "helpers", "helper", "misc", "common"}
# Not python/: the names of its modules are given by the programs written against Ray.
SOURCE_FOLDERS = ("cpp", "tests", "bench", "protos", "scripts")
SUFFIXES = {".h", ".cc", ".py", ".proto"}


def test_headers_have_pragma_once():
    missing = [
        str(path.relative_to(ROOT))
        for path in cpp_files("cpp", "tests/cpp", "bench/cpp", "cmake")
        if path.suffix == ".h" and "#pragma once" not in path.read_text()
    ]
    assert not missing, "\n".join(missing)


def test_no_file_has_a_vague_name():
    vague = [
        str(path.relative_to(ROOT))
        for path in files_below(*SOURCE_FOLDERS, suffixes=SUFFIXES)
        if path.stem in VAGUE
    ]
    assert not vague, "\n".join(vague)


def test_cpp_files_use_our_extensions():
    wrong = files_below(
        "cpp", "tests/cpp", "bench/cpp", suffixes={".cpp", ".cxx", ".hpp", ".hh", ".c"}
    )
    assert not [str(path.relative_to(ROOT)) for path in wrong]


@pytest.mark.parametrize(
    "path", list(files_below("protos", suffixes={".proto"})), ids=lambda p: p.stem
)
def test_proto_is_lite_versioned_and_starts_enums_unspecified(path):
    text = re.sub(r"//.*", "", path.read_text())
    assert "optimize_for = LITE_RUNTIME" in text
    assert re.search(r"^package ray\.\w+\.v\d+;", text, re.MULTILINE)
    for name, body in re.findall(r"enum\s+(\w+)\s*{([^}]*)}", text):
        zero = re.search(r"(\w+)\s*=\s*0\s*;", body)
        assert zero and zero.group(1).endswith("_UNSPECIFIED"), name
