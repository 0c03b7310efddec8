"""Write the table of flags in docs/configuration.md from cpp/ray/base/config_flags.inc.

    python3 scripts/config_table.py [--check]

The text around the table is the page's own and stays as it is.
"""

import argparse
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLAGS = ROOT / "cpp" / "ray" / "base" / "config_flags.inc"
PAGE = ROOT / "docs" / "configuration.md"

BEGIN = "<!-- table: scripts/config_table.py -->\n"
END = "<!-- end of table -->\n"

SECTION = re.compile(r"// --- (.+)")
FLAG = re.compile(r'MANTA_FLAG\(([^,]+), (\w+), (.+?), "(.*)"\)')
SHIFT = re.compile(r"(\d+)(?:LL)? << (\d+)")
TYPES = {"bool": "true or false", "int64_t": "integer", "double": "number", "std::string": "text"}


def read_flags(text: str) -> dict[str, list[tuple[str, str, str, str]]]:
    """(name, type, default, meaning) of each flag, by section, in the order of the file."""
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    section = ""
    for line in text.splitlines():
        if match := SECTION.fullmatch(line):
            section = match.group(1)
        elif line.startswith("MANTA_FLAG"):
            match = FLAG.fullmatch(line)
            if match is None:
                raise SystemExit(f"{FLAGS.relative_to(ROOT)} has a flag of another form:\n{line}")
            kind, name, default, meaning = match.groups()
            row = (name, TYPES[kind], readable(name, default), meaning)
            sections.setdefault(section, []).append(row)
    return sections


def readable(name: str, default: str) -> str:
    """A default as a person would write it; sizes also in binary units."""
    if match := SHIFT.fullmatch(default):
        default = str(int(match.group(1)) << int(match.group(2)))
    if name.endswith("_bytes") and default != "0":
        return f"{default} ({in_binary_units(int(default))})"
    return default.strip('"')


def in_binary_units(size: int) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def render(sections: dict[str, list[tuple[str, str, str, str]]]) -> str:
    parts = []
    for section, flags in sections.items():
        rows = [
            f"| `{name}` | {kind} | {default} | {meaning} |"
            for name, kind, default, meaning in flags
        ]
        header = ["| flag | type | default | meaning |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"### {section[0].upper()}{section[1:]}", "", *header, *rows, ""]))
    return "\n".join(parts)


def with_table(page: str, table: str) -> str:
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE.relative_to(ROOT)} has lost the marks around its table")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is stale")
    args = parser.parse_args()
    page = PAGE.read_text()
    fresh = with_table(page, render(read_flags(FLAGS.read_text())))
    if args.check and fresh != page:
        raise SystemExit(f"{PAGE.relative_to(ROOT)} is stale: run python3 scripts/config_table.py")
    if not args.check:
        PAGE.write_text(fresh)


if __name__ == "__main__":
    main()
