"""The files that the tidy tests look at."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.MULTILINE)


def files_below(*folders, suffixes):
    """All files with these suffixes below the folders (relative to the root), sorted."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def cpp_files(*folders):
    return files_below(*folders, suffixes={".h", ".cc"})
