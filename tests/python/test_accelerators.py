"""ray.util.accelerators and ray.util.tpu: names, values, arithmetic."""

import doctest

import pytest

from ray.util import accelerators, tpu
from ray.util.accelerators import accelerators as all_types
from ray.util.annotations import RayDeprecationWarning


def test_every_exported_name_has_a_type():
    for name in set(accelerators.__all__) - {"tpu", "NVIDIA_TESLA_A100"}:
        assert getattr(accelerators, name) == getattr(all_types, name)
    assert accelerators.tpu is tpu
    assert accelerators.NVIDIA_H100 == "H100"


def test_deprecated_name_warns():
    with pytest.warns(RayDeprecationWarning, match="use NVIDIA_A100 instead"):
        assert accelerators.NVIDIA_TESLA_A100 == "A100"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'NVIDIA_A1000'"):
        _ = accelerators.NVIDIA_A1000


def test_docstring_examples():
    assert doctest.testmod(tpu).failed == 0


@pytest.mark.parametrize(
    ("given", "version"),
    [("TPU-V4", "v4"), ("v4", "v4"), ("V5LITEPOD", "v5litepod"), ("tpu7x", "v7x")],
)
def test_version_of_type(given, version):
    assert tpu.get_tpu_version_from_type(given) == version


@pytest.mark.parametrize("given", ["v6e-16", "TPU-V9", "", None])
def test_no_version(given):
    with pytest.raises(ValueError, match="Invalid accelerator_type"):
        tpu.get_tpu_version_from_type(given)


# What real Ray 2.60 answers.
@pytest.mark.parametrize(
    ("arguments", "options", "workers", "chips"),
    [
        (("4x4", "TPU-V6E"), {}, 4, 4),
        (("2x4", "TPU-V6E"), {}, 1, 8),
        (("2x2x2", "TPU-V6E"), {}, 2, 4),
        (("1x1", "TPU-V6E"), {}, 1, 1),
        (("2x2x4", "TPU-V4"), {}, 4, 4),
        (("4x8", "TPU-V5LITEPOD"), {}, 8, 4),
        (("4x4", "TPU-V6E", {"TPU": 2}), {}, 8, 2),
        (("4x4", "TPU-V6E", {"TPU": 1}, 2), {}, 32, 1),
        (("4x4", "TPU-V6E"), {"chips_per_vm": 8}, 2, 8),
        (("4x4", "TPU-V6E"), {"tpu_resource_per_chip": 2}, 4, 8),
        (("4x4", "TPU-V6E", {"TPU": 2}), {"tpu_resource_per_chip": 2}, 16, 2),
    ],
)
def test_worker_resources(arguments, options, workers, chips):
    assert tpu.get_tpu_worker_resources(*arguments, **options) == (
        workers,
        {"CPU": 1, "TPU": chips},
    )


def test_worker_resources_keep_what_is_given():
    given = {"TPU": 1, "CPU": 3}
    assert tpu.get_tpu_worker_resources("4x4", "v6e", given) == (16, given)
    assert given == {"TPU": 1, "CPU": 3}


@pytest.mark.parametrize(
    ("topology", "resources", "message"),
    [
        ("3x3", None, "not divisible"),
        ("4x4", {"TPU": 3}, "not divisible"),
        ("4x4", {"TPU": 0}, "must be positive"),
        ("square", None, "Invalid topology"),
        ("0x4", None, "Invalid topology"),
        (None, None, "Invalid topology"),
    ],
)
def test_bad_worker_resources(topology, resources, message):
    with pytest.raises(ValueError, match=message):
        tpu.get_tpu_worker_resources(topology, "TPU-V6E", resources)


@pytest.mark.parametrize(
    ("workers", "resources", "slices"),
    [
        (8, None, 2),
        (5, None, 2),
        (4, None, 1),
        (0, None, 1),
        (3, {"TPU": 8}, 2),
        (3, {"TPU": 3}, 1),
    ],
)
def test_slices_for_workers(workers, resources, slices):
    assert tpu.get_tpu_num_slices_for_workers("4x4", "TPU-V6E", workers, resources) == slices


def test_coordinator_variables():
    assert tpu.get_tpu_coordinator_env_vars("10.0.0.1", 2, 1, "99") == {
        "MEGASCALE_COORDINATOR_ADDRESS": "10.0.0.1",
        "MEGASCALE_PORT": "99",
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": "1",
    }


def test_nodes_of_a_slice_are_alive():
    labels = {"ray.io/tpu-slice-name": "a"}
    alive = {"Alive": True, "Labels": labels}
    nodes = [alive, {"Alive": False, "Labels": labels}, {"Alive": True, "Labels": {}}]
    assert tpu.get_tpu_nodes_for_slice("a", nodes) == [alive]
    assert tpu.get_tpu_slice_name_from_node({}) is None


def test_chips_are_device_files(tmp_path):
    (tmp_path / "vfio").mkdir()
    for name in ("vfio/vfio", "vfio/0", "vfio/1"):
        (tmp_path / name).touch()
    assert tpu._count_chips(tmp_path) == 2
    for name in ("accel", "accel0"):
        (tmp_path / name).touch()
    assert tpu._count_chips(tmp_path) == 1


@pytest.mark.parametrize(
    ("pod_type", "chips", "hosts"),
    [("v4-16", 4, 2), ("v6e-16", 4, 4), ("v6e-4", 4, 1), ("v6e-16", 0, None), ("", 4, None)],
)
def test_hosts_of_the_slice(monkeypatch, pod_type, chips, hosts):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", pod_type)
    monkeypatch.setattr(tpu, "get_num_tpu_chips_on_node", lambda: chips)
    assert tpu.get_current_pod_worker_count() == hosts


def test_name_of_the_slice(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    assert tpu.get_current_pod_name() is None
    monkeypatch.setenv("TPU_NAME", "a")
    assert tpu.get_current_pod_name() == "a"
