"""The layers of cpp/ray: nothing includes upwards, and only clients of other programs."""

import collections

from tidy.tidy_files import INCLUDE, ROOT, cpp_files

LAYERS = [
    "base",
    "accelerators",
    "net",
    "resources",
    "scheduling",
    "store",
    "transfer",
    "gcs",
    "raylet",
    "core",
    "bindings",
]
# Layers that are the server side of a program: from above, only <layer>_client*.h may be seen.
PROGRAMS = {"gcs", "raylet"}
# What a layer may include although it is not in its list of libraries: third-party headers by
# prefix, and the only layers that may.
ONLY_IN = {
    "pybind11/": {"bindings"},
    "Python.h": {"bindings"},
    "grpcpp/": {"gcs", "raylet"},
    "grpc/": {"gcs", "raylet"},
    "sqlite3.h": {"gcs"},
    "openssl/": {"net"},
    "numpy/": {"bindings"},
}


def includes():
    """Yields (file, layer, included path) for each include of each layer."""
    for path in cpp_files("cpp/ray"):
        layer = path.relative_to(ROOT / "cpp" / "ray").parts[0]
        for included in INCLUDE.findall(path.read_text()):
            yield path.relative_to(ROOT), layer, included


def test_every_folder_is_a_known_layer():
    folders = {path.relative_to(ROOT / "cpp" / "ray").parts[0] for path in cpp_files("cpp/ray")}
    assert folders <= set(LAYERS)


def test_no_layer_includes_upwards():
    upward = collections.Counter()
    for path, layer, included in includes():
        parts = included.split("/")
        if parts[0] != "ray" or len(parts) < 3 or parts[1] not in LAYERS:
            continue
        if LAYERS.index(parts[1]) > LAYERS.index(layer):
            upward[f"{path} includes {included}"] += 1
    assert not upward, f"{upward.total()} upward includes:\n" + "\n".join(upward)


def test_other_programs_are_seen_through_their_clients():
    wrong = []
    for path, layer, included in includes():
        parts = included.split("/")
        # Generated protos live in ray/<layer>/v1 and are open to all.
        if parts[0] != "ray" or len(parts) != 3 or parts[1] not in PROGRAMS or parts[1] == layer:
            continue
        if not parts[2].startswith(f"{parts[1]}_client"):
            wrong.append(f"{path} includes {included}")
    assert not wrong, "\n".join(wrong)


def test_layers_include_each_other_by_full_path():
    wrong = [
        f"{path} includes {included}"
        for path, _, included in includes()
        if included.startswith((".", "cpp/"))
    ]
    assert not wrong, "\n".join(wrong)


def test_third_party_headers_stay_in_their_layers():
    wrong = []
    for path, layer, included in includes():
        for prefix, allowed in ONLY_IN.items():
            if included.startswith(prefix) and layer not in allowed:
                wrong.append(f"{path} includes {included}")
    assert not wrong, "\n".join(wrong)
