"""Packages of folders, and what nodes make of them and of archives from elsewhere."""

import io
import os
import sys
import tarfile
import types
import urllib.error
import urllib.request
import zipfile

import pytest

from integration.tiny_wheel import write_wheel
from ray._runtime_env.packaging import Package, content_digest
from ray._runtime_env.sources import content_key, fetch, unpack
from ray.exceptions import RuntimeEnvSetupError


class Table:
    """The key-value table."""

    def __init__(self):
        self.values = {}
        self.items = []
        self.puts = 0
        self.job_id = bytes(4)

    def kv_exists(self, key, namespace):
        return key in self.values

    def kv_put(self, key, value, overwrite, namespace):
        if namespace == "job_items":
            self.items.append(key.decode())
            return
        self.puts += 1
        self.values[key] = value


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    for name in ("main.py", "data/a.txt", "data/b.bin", "data/keep/c.txt", ".git/config"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(folder):
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, folders, files in os.walk(folder)
        for name in files
    )


def travel(package, tmp_path):
    """The folder that a node makes of a package."""
    table = Table()
    package.upload(table)
    target = tmp_path / "unpacked"
    target.mkdir()
    fetch(package.uri, str(target), table.values.get)
    return target


def test_package_arrives_as_it_was(project, tmp_path):
    (project / "run.sh").write_text("true")
    (project / "run.sh").chmod(0o755)
    (project / "empty").mkdir()
    (project / "link.txt").symlink_to("main.py")
    arrived = travel(Package(str(project)), tmp_path)
    assert names(arrived) == sorted(
        ["main.py", "data/a.txt", "data/b.bin", "data/keep/c.txt", "run.sh", "link.txt"]
    )
    assert (arrived / "data" / "a.txt").read_text() == "data/a.txt"
    assert (arrived / "link.txt").read_text() == "main.py"
    assert (arrived / "empty").is_dir()
    assert os.access(arrived / "run.sh", os.X_OK)
    assert not os.access(arrived / "main.py", os.X_OK)


def test_prefix_becomes_a_folder(project, tmp_path):
    arrived = travel(Package(str(project), prefix="project/"), tmp_path)
    assert (arrived / "project" / "main.py").exists()


def test_large_packages_travel_in_parts(project, tmp_path, monkeypatch):
    monkeypatch.setattr("ray._runtime_env.packaging._PART_BYTES", 100)
    (project / "noise").write_bytes(os.urandom(1000))
    arrived = travel(Package(str(project)), tmp_path)
    assert (arrived / "noise").read_bytes() == (project / "noise").read_bytes()


def test_missing_parts_are_named(project, tmp_path):
    package, table = Package(str(project)), Table()
    with pytest.raises(RuntimeEnvSetupError, match=package.uri):
        fetch(package.uri, str(tmp_path), table.values.get)
    package.upload(table)
    del table.values[f"{package.uri}#0".encode()]
    with pytest.raises(RuntimeEnvSetupError, match="Part 0"):
        fetch(package.uri, str(tmp_path), table.values.get)


def test_name_is_by_content(project):
    before = Package(str(project)).uri
    os.utime(project / "main.py", (1, 1))
    assert Package(str(project)).uri == before
    (project / "main.py").write_text("other")
    assert Package(str(project)).uri != before


def test_second_upload_does_nothing(project):
    table = Table()
    package = Package(str(project))
    package.upload(table)
    assert table.items == [f"00000000 packages {package.uri}"]
    puts = table.puts
    Package(str(project)).upload(table)
    assert table.puts == puts


def test_excludes_are_gitignore_patterns(project, tmp_path):
    arrived = travel(Package(str(project), ["*.txt", "!data/keep/c.txt", "/data/*.bin"]), tmp_path)
    assert names(arrived) == ["data/keep/c.txt", "main.py"]


def test_ignore_files_hold_in_their_folders(project, tmp_path):
    (project / ".gitignore").write_text("*.txt\n")
    (project / "data" / "keep" / ".gitignore").write_text("!c.txt\n")
    (project / "data" / ".rayignore").write_text("*.bin\n")
    arrived = travel(Package(str(project)), tmp_path)
    assert "data/keep/c.txt" in names(arrived)
    assert "data/a.txt" not in names(arrived)
    assert "data/b.bin" not in names(arrived)


def test_ignore_files_can_be_ignored(project, monkeypatch):
    without = Package(str(project)).uri
    (project / "other.py").write_text("")
    (project / ".gitignore").write_text("/other.py\n/.gitignore\n")
    assert Package(str(project)).uri == without
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    assert Package(str(project)).uri != without


def test_too_large_package_names_the_largest_files(project, monkeypatch):
    monkeypatch.setenv("RAY_runtime_env_package_max_bytes", str(1 << 20))
    (project / "data" / "weights.bin").write_bytes(bytes(2 << 20))
    with pytest.raises(ValueError) as raised:
        Package(str(project))
    assert "weights.bin" in str(raised.value)
    assert "2.0 MiB" in str(raised.value)
    assert "excludes" in str(raised.value)
    Package(str(project), ["*.bin"])


def test_links_to_folders_above_end(project, tmp_path):
    (project / "data" / "loop").symlink_to(project)
    assert "main.py" in names(travel(Package(str(project)), tmp_path))


def archive(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as target:
            for name in files:
                target.writestr(name, name)
    else:
        with tarfile.open(path, "w:gz") as target:
            for name in files:
                info = tarfile.TarInfo(name)
                info.size = len(name)
                target.addfile(info, io.BytesIO(name.encode()))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_only_folder_of_an_archive_is_entered(tmp_path, suffix):
    path = archive(tmp_path / f"a{suffix}", ["repository/main.py", "repository/repository/x"])
    (tmp_path / "out").mkdir()
    unpack(str(path), str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["main.py", "repository/x"]


def test_only_folder_that_is_a_package_stays(tmp_path):
    path = archive(tmp_path / "a.zip", ["package/__init__.py"])
    (tmp_path / "out").mkdir()
    unpack(str(path), str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["package/__init__.py"]


def test_names_that_lead_out_of_the_folder_do_not(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    unpack(str(archive(tmp_path / "a.zip", ["../evil.py", "b.py", "c.py"])), str(out))
    assert not (tmp_path / "evil.py").exists()
    with pytest.raises(tarfile.TarError):
        unpack(str(archive(tmp_path / "a.tar.gz", ["../evil.py"])), str(out))


def test_wheels_are_unpacked(tmp_path):
    wheel = write_wheel(tmp_path, "tiny_thing")
    with zipfile.ZipFile(wheel, "a") as target:
        target.writestr("tiny_thing-1.0.data/purelib/tiny_other.py", "")
    out = tmp_path / "out"
    out.mkdir()
    unpack(str(wheel), str(out))
    assert {"tiny_thing.py", "tiny_other.py"} <= set(names(out))


def test_file_uris_are_cached_by_content(tmp_path):
    path = archive(tmp_path / "a.zip", ["x.py", "y.py"])
    key = content_key(f"file://{path}")
    assert content_key(f"file://{path}") == key
    archive(path, ["z.py"])
    assert content_key(f"file://{path}") != key
    out = tmp_path / "out"
    out.mkdir()
    fetch(f"file://{path}", str(out), None)
    assert names(out) == ["z.py"]


def test_what_cannot_be_fetched_is_named(tmp_path):
    with pytest.raises(RuntimeEnvSetupError, match="file:///no/such.zip"):
        fetch("file:///no/such.zip", str(tmp_path), None)
    broken = tmp_path / "broken.zip"
    broken.write_text("no archive")
    with pytest.raises(RuntimeEnvSetupError, match="broken.zip"):
        fetch(f"file://{broken}", str(tmp_path), None)


class Bucket:
    """What fsspec makes of an URI of an object store."""

    def __init__(self, path):
        self.path = path

    def ukey(self, path):
        return os.stat(self.path).st_size

    def open(self, path, mode):
        return open(self.path, mode)


def test_object_stores_are_read_by_fsspec(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", ["x.py", "y.py"])
    fsspec = types.SimpleNamespace(url_to_fs=lambda uri: (Bucket(path), uri))
    monkeypatch.setitem(sys.modules, "fsspec", types.SimpleNamespace(core=fsspec))
    key = content_key("s3://bucket/a.zip")
    out = tmp_path / "out"
    out.mkdir()
    fetch("s3://bucket/a.zip", str(out), None)
    assert names(out) == ["x.py", "y.py"]
    archive(path, ["z.py"])
    assert content_key("s3://bucket/a.zip") != key


class Response(io.BytesIO):
    """What a web server answers."""

    headers = {"ETag": "1"}


def test_web_servers_tell_the_version(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", ["x.py", "y.py"])
    asked = []

    def urlopen(request, timeout):
        asked.append(getattr(request, "method", "GET"))
        return Response(path.read_bytes())

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    uri = "https://host/a.zip?token=1"
    key = content_key(uri)
    out = tmp_path / "out"
    out.mkdir()
    fetch(uri, str(out), None)
    assert names(out) == ["x.py", "y.py"]
    assert asked == ["HEAD", "GET"]
    monkeypatch.setattr(Response, "headers", {"ETag": "2"})
    assert content_key(uri) != key


def test_web_servers_need_not_tell_the_version(monkeypatch):
    def urlopen(request, timeout):
        raise urllib.error.HTTPError("https://host/a.zip", 405, "not allowed", {}, None)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert content_key("https://host/a.zip") == content_key("https://host/a.zip")


def test_missing_fsspec_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(RuntimeEnvSetupError, match="fsspec"):
        content_key("s3://bucket/a.zip")


def test_content_digest_of_files_and_folders(project):
    before = content_digest(str(project)), content_digest(str(project / "main.py"))
    (project / "main.py").write_text("other")
    after = content_digest(str(project)), content_digest(str(project / "main.py"))
    assert before[0] != after[0]
    assert before[1] != after[1]
