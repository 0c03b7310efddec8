"""The pages of docs/ say what the code says, and nothing points to a page that is not there."""

import re
import subprocess
import sys

import pytest

from tidy.tidy_files import ROOT, files_below

PAGES = sorted([*ROOT.glob("*.md"), *files_below("docs", "bench", suffixes={".md"})])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
# As comments name pages: docs/wire.md, docs/adr/0004.
MENTION = re.compile(r"(?<![\w/.:])docs/[\w/.-]*\w")
# As pages name files: `raylet.h`, `gcs/redis_storage.h`, `util/metrics.py`.
FILE = re.compile(r"`([\w./-]+\.(?:h|cc|inc|py|pyi|proto))`")


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_table_of_flags_is_fresh():
    script = ROOT / "scripts" / "config_table.py"
    check = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_wire_page_lists_every_frame_type():
    proto = (ROOT / "protos" / "ray" / "wire" / "v1" / "frame_type.proto").read_text()
    (body,) = re.findall(r"enum FrameType {(.*?)\n}", proto, re.DOTALL)
    types = re.findall(r"^  (\w+) = (\d+);", body, re.MULTILINE)
    page = (ROOT / "docs" / "wire.md").read_text()
    listed = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", page, re.MULTILINE)
    assert listed == [entry for entry in types if entry[0] != "FRAME_UNSPECIFIED"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for target, anchor in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(f"{target}#{anchor}" if anchor else target)
    assert not broken, "\n".join(broken)


def test_comments_name_pages_that_exist():
    missing = []
    for path in files_below(
        "cpp",
        "protos",
        "python",
        "bench",
        "scripts",
        suffixes={".h", ".cc", ".inc", ".py", ".proto"},
    ):
        for mention in MENTION.findall(path.read_text()):
            if not list(ROOT.glob(f"{mention}*")):
                missing.append(f"{path.relative_to(ROOT)} names {mention}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_files_that_exist(page):
    suffixes = {".h", ".cc", ".inc", ".py", ".pyi", ".proto"}
    folders = ("cpp", "protos", "python", "tests", "bench", "scripts", "examples")
    paths = {f"/{path.relative_to(ROOT)}" for path in files_below(*folders, suffixes=suffixes)}
    named = FILE.findall(page.read_text())
    missing = [name for name in named if not any(path.endswith(f"/{name}") for path in paths)]
    assert not missing, "\n".join(missing)


def test_architecture_names_every_module():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    modules = [
        path.name
        for path in sorted((ROOT / "python" / "ray").glob("*.py"))
        if path.stem != "__init__"
    ]
    layers = [f"{path.name}/" for path in sorted((ROOT / "cpp" / "ray").iterdir()) if path.is_dir()]
    missing = [name for name in [*modules, *layers] if f"`{name}`" not in page]
    assert not missing, "\n".join(missing)
