"""Install the Debian packages of system-packages.txt that are missing.

    python3 scripts/system_packages.py [--group setup] [--check]

Asks dpkg first, so a complete machine costs milliseconds and needs no network.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read_group(group: str) -> list[str]:
    packages, current = [], None
    for line in (ROOT / "system-packages.txt").read_text().splitlines():
        line = line.split("#", 1)[0].strip()
        if line.startswith("["):
            current = line.strip("[]")
        elif line and current == group:
            packages.append(line)
    if not packages:
        raise SystemExit(f"system-packages.txt has no packages in group [{group}]")
    return packages


def missing(packages: list[str]) -> list[str]:
    query = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *packages],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    installed = {
        line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")
    }
    return [package for package in packages if package not in installed]


def install(packages: list[str]) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    command = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    if sudo and not shutil.which("sudo"):
        raise SystemExit("No sudo: as root, run apt-get install " + " ".join(packages))
    subprocess.run([*command, "update"], check=True)
    subprocess.run(
        [*command, "install", "-y", "--no-install-recommends", *packages],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", default="setup")
    parser.add_argument("--check", action="store_true", help="only list what is missing")
    args = parser.parse_args()
    packages = read_group(args.group)
    if not shutil.which("dpkg-query"):
        print("Not a Debian system; install by hand what matches:", *packages, file=sys.stderr)
        return
    absent = missing(packages)
    if args.check:
        print("\n".join(absent))
        raise SystemExit(1 if absent else 0)
    if absent:
        print("Installing system packages:", *absent, flush=True)
        install(absent)


if __name__ == "__main__":
    main()
