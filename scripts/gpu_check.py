"""Try the accelerator layer on this machine; needs CMake and a C++ compiler, nothing else of ours.

    python3 scripts/gpu_check.py [--build-dir build/accelerators]

Builds cpp/ray/accelerators alone, runs its tests if GoogleTest is there, and the probe against the
fake NVML. On a machine with NVIDIA GPUs it then compares what the probe finds with nvidia-smi, and
runs a cupy kernel in two processes that are each given half of one GPU. Without GPUs it says so and
ends well. Exit status: 0, or 1 with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY_VARIABLE = "RAY_nvml_library"
MIB = 1 << 20
# nvidia-smi runs a moment later than the probe, and rounds to MiB.
MEMORY_TOLERANCE_BYTES = 64 * MIB

# Its limit, a kernel on a buffer that fits, and one that does not. Prints what it saw.
HALF_A_GPU = """
import json, os
import cupy

_, total = cupy.cuda.runtime.memGetInfo()
cupy.get_default_memory_pool().set_limit(size=total // 2)
values = cupy.arange(1 << 22, dtype=cupy.float64)
double = cupy.ElementwiseKernel("float64 x", "float64 y", "y = 2 * x", "manta_double")
mean = float(double(values).mean())
try:
    cupy.empty(total * 3 // 4, dtype=cupy.uint8)
    limited = False
except cupy.cuda.memory.OutOfMemoryError:
    limited = True
print(json.dumps({
    "mean": mean,
    "limited": limited,
    "devices": cupy.cuda.runtime.getDeviceCount(),
    "visible": os.environ["CUDA_VISIBLE_DEVICES"],
}))
"""


class CheckFailed(Exception):
    """Something differs from what it should be; the text says what."""


def expect(condition: bool, problem: str) -> None:
    if not condition:
        raise CheckFailed(problem)


def build(folder: pathlib.Path) -> None:
    if shutil.which("cmake") is None:
        raise CheckFailed("there is no cmake: install it (apt-get install cmake g++)")
    source = ROOT / "cpp" / "ray" / "accelerators"
    subprocess.run(["cmake", "-S", source, "-B", folder], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder], check=True)


def run_unit_tests(folder: pathlib.Path) -> None:
    if not (folder / "tests" / "test_accelerators").exists():
        print("unit tests: not built, GoogleTest is not installed (libgtest-dev libgmock-dev)")
        return
    subprocess.run(["ctest", "--test-dir", folder, "--output-on-failure"], check=True)


def probe(
    folder: pathlib.Path, *allocation: str, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """What the probe prints; in this process's environment if none is given."""
    answer = subprocess.run(
        [folder / "accelerator_probe", *allocation],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def check_fake_library(folder: pathlib.Path) -> None:
    """The probe reports what the fake NVML says, and why a broken one offers nothing."""
    environment = {
        **os.environ,
        LIBRARY_VARIABLE: str(folder / "tests" / "libfake_nvml.so"),
        "CUDA_VISIBLE_DEVICES": "GPU-b,0",
        "FAKE_NVML_DEVICES": "NVIDIA A100-SXM4-40GB|GPU-a|42949672960|0|0|;"
        "NVIDIA A100-SXM4-40GB|GPU-b|42949672960|1048576|50|",
    }
    found = probe(folder, "GPU=0", environment=environment)
    devices = found["resources"]["GPU"]["devices"]
    expect([device["uuid"] for device in devices] == ["GPU-b", "GPU-a"], f"devices: {devices}")
    expect(devices[0]["memory_used_bytes"] == MIB, f"memory: {devices[0]}")
    expect(
        found["announcement"]["resources"] == {"GPU": 2, "accelerator_type:A100": 1},
        f"announcement: {found['announcement']}",
    )
    expect(
        found["environment"] == {"CUDA_VISIBLE_DEVICES": "GPU-b"},
        f"environment: {found['environment']}",
    )
    broken = probe(folder, environment={**environment, LIBRARY_VARIABLE: "/no/such.so"})
    expect(len(broken["warnings"]) == 1, f"no warning of a missing library: {broken['warnings']}")
    print("fake NVML: discovery, visible devices, announcement, warnings as they should be")


def query_nvidia_smi() -> list[dict[str, Any]]:
    """One entry a GPU, as nvidia-smi lists them; none without the program or a GPU."""
    if shutil.which("nvidia-smi") is None:
        return []
    fields = "index,uuid,name,memory.total,memory.used"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        print(f"nvidia-smi: {answer.stdout.strip() or answer.stderr.strip()}")
        return []
    gpus = []
    for line in answer.stdout.splitlines():
        index, uuid, name, total, used = (field.strip() for field in line.split(","))
        memory = {"total": mib(total), "used": mib(used)}
        gpus.append({"index": int(index), "uuid": uuid, "name": name, **memory})
    return gpus


def mib(text: str) -> int | None:
    """Bytes; None where nvidia-smi says [N/A], as for memory that is shared with the CPU."""
    return int(text) * MIB if text.isdigit() else None


def check_against_nvidia_smi(folder: pathlib.Path, gpus: list[dict[str, Any]]) -> None:
    # nvidia-smi does not mind it.
    everything = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    found = probe(folder, environment=everything)
    devices = found["resources"]["GPU"]["devices"]
    expect(not found["warnings"], f"warnings: {found['warnings']}")
    expect(len(devices) == len(gpus), f"{len(devices)} devices, nvidia-smi has {len(gpus)}")
    for device, gpu in zip(devices, gpus):
        for name in ("index", "uuid", "name"):
            expect(device[name] == gpu[name], f"{name}: {device[name]!r}, not {gpu[name]!r}")
        title = f"GPU {gpu['index']}"
        for name in ("total", "used"):
            check_memory(device.get(f"memory_{name}_bytes"), gpu[name], f"{title} {name}")
        expect(not device["problem"], f"{title}: {device['problem']}")
        print(
            f"{title}: {device['name']}, type {device['type']}, {device['uuid']}, "
            f"{device.get('memory_used_bytes', 0) // MIB} of "
            f"{device.get('memory_total_bytes', 0) // MIB} MiB used, "
            f"{device.get('utilization_percent')} % busy, {len(device['mig_instances'])} MIG "
            "instances: as nvidia-smi says"
        )


def check_memory(read: int | None, expected: int | None, what: str) -> None:
    if read is None or expected is None:
        expect(read == expected, f"{what}: {read}, nvidia-smi says {expected}")
        return
    expect(
        abs(read - expected) <= MEMORY_TOLERANCE_BYTES,
        f"{what}: {read} bytes, nvidia-smi says {expected}",
    )


def check_halves(folder: pathlib.Path) -> None:
    """Two processes at once, each with the variables of GPU 0 and half of its memory."""
    if subprocess.run([sys.executable, "-c", "import cupy"], capture_output=True).returncode != 0:
        raise CheckFailed(
            f"{sys.executable} has no cupy that works here: pip install cupy-cuda12x (or the one "
            "for this machine's CUDA) to run a kernel"
        )
    given = probe(folder, "GPU=0")["environment"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HALF_A_GPU],
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    expected = {
        "mean": float((1 << 22) - 1),
        "limited": True,
        "devices": 1,
        "visible": given["CUDA_VISIBLE_DEVICES"],
    }
    answers = [process.communicate()[0] for process in processes]
    for process, answer in zip(processes, answers):
        code = process.returncode
        expect(code == 0, f"a process with half a GPU ended with {code}")
        expect(json.loads(answer) == expected, f"half a GPU: {answer.strip()}, not {expected}")
    print(f"cupy: two processes, each with half of GPU {given['CUDA_VISIBLE_DEVICES']}, computed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--build-dir", type=pathlib.Path, default=ROOT / "build" / "accelerators", help="where"
    )
    folder = parser.parse_args().build_dir.resolve()
    try:
        build(folder)
        run_unit_tests(folder)
        check_fake_library(folder)
        gpus = query_nvidia_smi()
        if not gpus:
            print("this machine has no NVIDIA GPU: the fake library was all that could be tried")
            return
        check_against_nvidia_smi(folder, gpus)
        check_halves(folder)
    except (CheckFailed, subprocess.CalledProcessError) as failure:
        raise SystemExit(f"gpu-check: {failure}") from None


if __name__ == "__main__":
    main()
