"""bench/RESULTS.md: one section a program, each of which replaces its own."""

import pathlib
import re

PATH = pathlib.Path(__file__).resolve().parent / "RESULTS.md"
# "Scheduling over nodes" is kept by hand, from bench/cpp.
ORDER = [
    "Compared with Ray",
    "Other libraries",
    "Tail latency",
    "Scale",
    "Scheduling over nodes",
]


def write_section(title: str, text: str, path: pathlib.Path = PATH) -> None:
    """Puts `text` below the heading `title`, in place of what was there."""
    sections = read_sections(path)
    sections[title] = text.strip()
    parts = [f"## {name}\n\n{sections[name]}" for name in ORDER if name in sections]
    path.write_text("\n\n".join(["# Results", *parts]) + "\n")


def read_sections(path: pathlib.Path) -> dict[str, str]:
    """The text of each section of ORDER that the file has."""
    text = path.read_text() if path.exists() else ""
    pieces = re.split(rf"^## ({'|'.join(map(re.escape, ORDER))})$", text, flags=re.MULTILINE)
    return {title: body.strip() for title, body in zip(pieces[1::2], pieces[2::2])}


def table(headings: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown, with columns of even width."""
    widths = [max(len(line[i]) for line in [headings, *lines]) for i in range(len(headings))]

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    return "\n".join([row(headings), row(["-" * width for width in widths]), *map(row, lines)])


def description(facts: dict[str, object], warnings: list[str]) -> str:
    """Where and how the figures came about."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += [f"- WARNING: {warning}" for warning in warnings]
    return "\n".join(lines)
