"""Bring .venv up to date: system packages, Python packages, and the built and installed ray.

    python3 scripts/setup_env.py [--force]

Each step is skipped while the hash of its inputs is the one recorded in .venv, so a second run
takes a fraction of a second. The C++ is built in build/release by scikit-build-core with the
tests configured but not built; `cmake --build build/release` then builds those in the same tree.
"""

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BUILD = ROOT / "build" / "release"
STAMP = VENV / "manta-setup.json"

# What the installed package is made from.
SOURCES = ["cpp", "protos", "python", "cmake", "CMakeLists.txt", "pyproject.toml", "README.md"]
CMAKE_DEFINES = {"MANTA_BUILD_TESTS": "ON"}


def hash_files(*names: str) -> str:
    digest = hashlib.sha256()
    for name in names:
        top = ROOT / name
        paths = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for path in paths:
            if "__pycache__" in path.parts or path.suffix == ".pyc":
                continue
            digest.update(f"{path.relative_to(ROOT)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def pip(*args: str) -> None:
    env = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 2), **os.environ}
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    subprocess.run([PYTHON, "-m", "pip", *args], check=True, cwd=ROOT, env=env)


def install_requirements() -> None:
    # Read in the environment's own Python: the one that runs this script may lack tomllib.
    code = (
        "import json\n"
        "try: import tomllib\n"
        "except ImportError: from pip._vendor import tomli as tomllib\n"
        "p = tomllib.load(open('pyproject.toml', 'rb'))\n"
        "extras = p['project']['optional-dependencies'].values()\n"
        "print(json.dumps(p['build-system']['requires'] + p['project']['dependencies']"
        " + sum(extras, [])))"
    )
    found = subprocess.run(
        [PYTHON, "-c", code], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pip("install", "--quiet", *json.loads(found.stdout))


def install_package() -> None:
    settings = {"build-dir": str(BUILD.relative_to(ROOT)), "install.strip": "false"}
    settings |= {f"cmake.define.{key}": value for key, value in CMAKE_DEFINES.items()}
    flags = [f"--config-settings={key}={value}" for key, value in settings.items()]
    pip(
        "install",
        "--verbose",  # otherwise minutes of compilation pass in silence
        "--no-build-isolation",
        "--no-deps",
        "--force-reinstall",
        "--no-index",
        *flags,
        str(ROOT),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="do every step again")
    args = parser.parse_args()

    (ROOT / "build").mkdir(exist_ok=True)
    lock = open(ROOT / "build" / ".setup.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends

    done = {}
    if STAMP.exists() and PYTHON.exists() and not args.force:
        done = json.loads(STAMP.read_text())

    def step(name: str, inputs: str, action) -> None:
        if done.get(name) == inputs:
            return
        action()
        done[name] = inputs
        STAMP.parent.mkdir(exist_ok=True)
        STAMP.write_text(json.dumps(done, indent=1) + "\n")

    if not (VENV / "bin" / "pip").exists():
        done = {}
        subprocess.run([sys.executable, ROOT / "scripts" / "system_packages.py"], check=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        done["system"] = hash_files("system-packages.txt")
    step(
        "system",
        hash_files("system-packages.txt"),
        lambda: subprocess.run(
            [sys.executable, ROOT / "scripts" / "system_packages.py"], check=True
        ),
    )
    step("requirements", hash_files("pyproject.toml"), install_requirements)
    if not (BUILD / "CMakeCache.txt").exists():
        done.pop("package", None)
    step(
        "package",
        hash_files(*(name for name in SOURCES if (ROOT / name).exists())),
        install_package,
    )


if __name__ == "__main__":
    main()
