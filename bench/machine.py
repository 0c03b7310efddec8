"""Facts about the machine and the build that stand beside every result."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def facts() -> dict[str, object]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(),
        "cpu": cpu_model(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min": os.getloadavg()[0],
    }


def cpu_model() -> str:
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def commit() -> str:
    """The commit of this checkout, with a plus if files differ from it."""
    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def build_type() -> str:
    """CMAKE_BUILD_TYPE of the tree that `make setup` builds."""
    cache = ROOT / "build" / "release" / "CMakeCache.txt"
    if not cache.exists():
        return "unknown"
    found = re.search(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", cache.read_text(), re.MULTILINE)
    return found.group(1) if found and found.group(1) else "none"


def warnings(build: str) -> list[str]:
    """Reasons not to trust the figures of a run that starts now."""
    found = []
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 0.3 * cores:
        found.append(f"the machine is busy: load {load:.2f} on {cores} cores")
    if build not in ("Release", "RelWithDebInfo"):
        found.append(f"the build type is {build}, not Release")
    return found
