import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from torchvision import datasets

from distill.config.data_sets import DATA_SETS, Origin, TorchvisionOrigin
from distill.data.sets import debian, mirrors
from distill.data.sets import fetch as fetching
from distill.data.sets.at_hand import Unavailable
from distill.data.sets.fetch import fetch, looked_up
from distill.errors import UserError

FILES = {"a-idx": b"first file", "b-idx": b"second file"}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def served(monkeypatch):
    """What the mirrors serve, by address; anything else is out of reach. Debian is out of reach too."""
    answers: dict[str, bytes] = {}

    def retrieve(url: str, path: Path, progress: bool) -> Path:
        if url not in answers:
            raise OSError("Name or service not known")
        path.write_bytes(answers[url])
        return path

    def debian(*args):
        raise Unavailable("no apt-get here: not Debian or Ubuntu")

    monkeypatch.setattr(mirrors, "retrieve", retrieve)
    monkeypatch.setattr(fetching, "unpack_package", debian)
    return answers


@pytest.fixture
def origin():
    downloads = tuple((f"{name}.gz", md5(data)) for name, data in FILES.items())
    return Origin("Set/raw", tuple(FILES), downloads, ("one:/", "two:/"), debian_package="dataset-set")


def left_behind(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_files_at_hand_need_no_source_and_no_lock(tmp_path, origin, served):
    folder = tmp_path / "Set" / "raw"
    folder.mkdir(parents=True)
    (folder / "a-idx").write_bytes(b"raw")
    (folder / "b-idx.gz").write_bytes(b"packed")
    assert fetch("set", origin, tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["Set"]


def test_the_second_mirror_serves_what_the_first_does_not(tmp_path, origin, served):
    served.update({f"two:/{name}.gz": data for name, data in FILES.items()})
    folder = fetch("set", origin, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{name}.gz": data for name, data in FILES.items()
    }
    assert sorted(left_behind(tmp_path)) == ["a-idx.gz", "b-idx.gz"]


def test_only_missing_files_are_fetched(tmp_path, origin, served):
    folder = tmp_path / "Set" / "raw"
    folder.mkdir(parents=True)
    (folder / "a-idx").write_bytes(b"the user's own")
    served["one:/b-idx.gz"] = FILES["b-idx"]
    fetch("set", origin, tmp_path)
    assert sorted(left_behind(tmp_path)) == ["a-idx", "b-idx.gz"]
    assert (folder / "a-idx").read_bytes() == b"the user's own"


def test_the_error_lists_what_was_tried_and_the_ways_out(tmp_path, origin, served):
    with pytest.raises(UserError) as caught:
        fetch("set", origin, tmp_path)
    tried = ("one:/a-idx.gz: Name or service", "two:/a-idx.gz", "Debian package dataset-set (no apt-get")
    ways_out = (f"Put the files in {tmp_path / 'Set' / 'raw'}", "DISTILL_DATA", "digits", "imagefolder:")
    for part in tried + ways_out:
        assert part in str(caught.value), part
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path) == []


def test_a_download_with_a_wrong_checksum_never_arrives(tmp_path, origin, served):
    served["one:/a-idx.gz"] = b"<html>log in</html>"
    with pytest.raises(UserError, match="19 bytes, has another md5"):
        fetch("set", origin, tmp_path)
    assert left_behind(tmp_path) == []


ARCHIVE = tar_of({f"batches/{name}": data for name, data in FILES.items()})
IN_ARCHIVE = Origin("batches", tuple(FILES), (("set.tar.gz", md5(ARCHIVE)),), ("one:/",))


def test_an_archive_is_unpacked(tmp_path, served):
    served["one:/set.tar.gz"] = ARCHIVE
    folder = fetch("set", IN_ARCHIVE, tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert sorted(left_behind(tmp_path)) == sorted(FILES)


def test_an_archive_at_hand_is_used(tmp_path, served):
    (tmp_path / "set.tar.gz").write_bytes(ARCHIVE)
    assert {path.name for path in fetch("set", IN_ARCHIVE, tmp_path).iterdir()} == set(FILES)


def test_a_truncated_archive_at_hand_is_named(tmp_path, served):
    (tmp_path / "set.tar.gz").write_bytes(ARCHIVE[:40])
    with pytest.raises(UserError, match=r"set\.tar\.gz \(40 bytes\)"):
        fetch("set", IN_ARCHIVE, tmp_path)
    assert left_behind(tmp_path) == ["set.tar.gz"]


def fake_apt(monkeypatch, fails: int = 0, uid: int = 0) -> list[list[str]]:
    """Replace apt-get and dpkg-deb; the first `fails` downloads fail. What was called is returned."""
    called: list[list[str]] = []

    def run(command, cwd, **kwargs):
        called.append([word for word in command if not word.startswith("-o")])
        if "download" in command:
            if sum("download" in words for words in called) <= fails:
                raise subprocess.CalledProcessError(100, command, stderr=b"W: lists\nE: Unable to locate package\n")
            (cwd / "dataset-set_1_all.deb").touch()
        if command[0] == "dpkg-deb":
            folder = cwd / "unpacked" / "usr" / "share" / "datasets" / "set"
            folder.mkdir(parents=True)
            for name, data in FILES.items():
                (folder / f"{name}.gz").write_bytes(data)

    monkeypatch.setattr(debian.subprocess, "run", run)
    monkeypatch.setattr(debian.shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(debian.os, "geteuid", lambda: uid)
    monkeypatch.setattr(mirrors, "retrieve", _offline)
    return called


def _offline(url: str, path: Path, progress: bool) -> Path:
    raise OSError("timed out")


@pytest.mark.parametrize("fails", [0, 1])
def test_the_debian_package_serves_when_downloads_do_not(tmp_path, origin, monkeypatch, fails):
    called = fake_apt(monkeypatch, fails)
    folder = fetch("set", origin, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["a-idx.gz", "b-idx.gz"]
    verbs = [words[1] for words in called]
    assert verbs == (["download", "-x"] if fails == 0 else ["download", "update", "download", "-x"])


def test_without_root_the_package_lists_stay_as_they_are(tmp_path, origin, monkeypatch):
    called = fake_apt(monkeypatch, fails=1, uid=1000)
    with pytest.raises(UserError, match="locate package; if the package lists are stale"):
        fetch("set", origin, tmp_path)
    assert [words[1] for words in called] == ["download"]


OF_TORCHVISION = {
    name: data_set.origin for name, data_set in DATA_SETS.items() if isinstance(data_set.origin, TorchvisionOrigin)
}


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_torchvisions_tables_have_what_is_needed(name):
    known = OF_TORCHVISION[name]
    origin = looked_up(known)
    assert len(origin.files) >= 3
    assert all(len(checksum) == 32 for _, checksum in origin.downloads)
    assert all(mirror.endswith("/") for mirror in origin.mirrors)
    assert origin.debian_package == known.debian_package
    source = getattr(datasets, known.class_name)
    theirs = f"{source.__name__}/raw" if issubclass(source, datasets.MNIST) else source.base_folder
    assert origin.folder == known.folder == theirs


def test_a_root_that_cannot_be_written_is_named(tmp_path, origin):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="data_root"):
        fetch("set", origin, tmp_path / "file" / "data")
