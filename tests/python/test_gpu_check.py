"""What scripts/gpu_check.py reads and how it compares, without a GPU."""

import importlib.util
import pathlib

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "gpu_check.py"
MIB = 1 << 20


@pytest.fixture
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def put_program(folder, monkeypatch, text):
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_nvidia_smi_is_read(gpu_check, tmp_path, monkeypatch):
    lines = "0, GPU-a, NVIDIA H100, 81559, 4\n1, GPU-b, NVIDIA GB10, [N/A], [N/A]"
    put_program(tmp_path, monkeypatch, f"echo '{lines}'")
    first, second = gpu_check.query_nvidia_smi()
    assert first == {
        "index": 0,
        "uuid": "GPU-a",
        "name": "NVIDIA H100",
        "total": 81559 * MIB,
        "used": 4 * MIB,
    }
    assert second["total"] is None


def test_nvidia_smi_that_fails_means_no_gpu(gpu_check, tmp_path, monkeypatch, capsys):
    put_program(tmp_path, monkeypatch, "echo 'No devices were found'; exit 6")
    assert gpu_check.query_nvidia_smi() == []
    assert "No devices were found" in capsys.readouterr().out


def test_memory_may_differ_a_little(gpu_check):
    gpu_check.check_memory(1000 * MIB, 1060 * MIB, "used")
    gpu_check.check_memory(None, None, "used")
    with pytest.raises(gpu_check.CheckFailed, match="used: 0 bytes"):
        gpu_check.check_memory(0, 100 * MIB, "used")
    with pytest.raises(gpu_check.CheckFailed):
        gpu_check.check_memory(None, 100 * MIB, "used")
