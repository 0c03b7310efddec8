"""Python environments for what we compare with, outside the repository, made once."""

import pathlib
import subprocess
import sys
import venv

CACHE = pathlib.Path.home() / ".cache" / "manta-bench"


def python_with(folder: pathlib.Path, requirements: list[str]) -> pathlib.Path:
    """The interpreter of the environment in `folder`, which is made if it is missing."""
    python = folder / "bin" / "python"
    complete = folder / "complete"  # written last: a broken installation is made anew
    wanted = "\n".join(requirements)
    if not complete.exists() or complete.read_text() != wanted:
        print(f"Installing {', '.join(requirements)} into {folder}", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run(command, check=True)
        complete.write_text(wanted)
    return python


def reference(folder: pathlib.Path = CACHE / "ray-2.60.0") -> pathlib.Path:
    """The interpreter that has Ray, to which ours is compared."""
    return python_with(folder, ["ray==2.60.0", "numpy"])


def peers(folder: pathlib.Path = CACHE / "peers") -> pathlib.Path:
    """The interpreter that has the other libraries."""
    return python_with(folder, ["dask[distributed]", "joblib", "numpy"])
