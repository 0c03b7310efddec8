"""What the built files depend on."""

import importlib.util
import pathlib
import re
import subprocess

import pytest


def needed(path):
    """Names of the shared libraries that the file asks for, directly."""
    listing = subprocess.run(["readelf", "-d", path], check=True, capture_output=True, text=True)
    return re.findall(r"\(NEEDED\).*\[(.+)\]", listing.stdout)


def installed(relative):
    spec = importlib.util.find_spec("ray")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("ray is not installed")
    found = list(pathlib.Path(spec.submodule_search_locations[0]).glob(relative))
    if not found:
        pytest.skip(f"{relative} is not built")
    return found[0]


def test_python_module_links_neither_grpc_nor_full_protobuf():
    libraries = needed(installed("_raylet*.so"))
    assert not [name for name in libraries if re.match(r"libgrpc|libprotobuf\.so|libsqlite", name)]


@pytest.mark.parametrize("program", ["raylet", "gcs_server"])
def test_program_loads_one_protobuf_runtime(program):
    libraries = needed(installed(f"bin/{program}"))
    assert "libprotobuf.so.32" not in libraries
