"""Digests of folders and archives: what changes them, and what is read again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from distill.data.sets import content
from distill.data.sets.content import folder_content
from tests.data.sets.image_files import make_files, write_folder, write_tar, write_zip

pytestmark = pytest.mark.fault("images, labels or code that changed")

FILES = make_files()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in order; a file counts as settled at once."""
    names: list[str] = []
    hash_files = content.hash_files

    def counting(path: Path, wanted: Sequence[str], progress: bool) -> list[str]:
        names.extend(wanted)
        return hash_files(path, wanted, progress)

    monkeypatch.setattr(content, "hash_files", counting)
    monkeypatch.setattr(content, "TICK_NS", 0)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets", FILES)


def digest(path: Path) -> str:
    found = folder_content(path, path.parent / "root", progress=False)
    assert found
    return found


def test_a_second_look_reads_nothing(folder: Path, hashed: list[str]) -> None:
    first = digest(folder)
    assert len(hashed) == len(FILES)
    assert (digest(folder), len(hashed)) == (first, len(FILES))


def test_only_what_changed_is_read_again(folder: Path, hashed: list[str]) -> None:
    first = digest(folder)
    del hashed[:]
    (folder / "train/cat/03.png").write_bytes(FILES["train/dog/03.png"])
    (folder / "train/dog/new.png").write_bytes(FILES["train/dog/03.png"])
    assert digest(folder) != first
    assert hashed == ["train/cat/03.png", "train/dog/new.png"]


def test_a_changed_time_alone_changes_nothing(folder: Path, hashed: list[str]) -> None:
    first = digest(folder)
    del hashed[:]
    os.utime(folder / "train/cat/03.png", (1, 1))
    assert digest(folder) == first
    assert hashed == ["train/cat/03.png"]


def replace_image(folder: Path) -> None:
    """Put other bytes of the same number in the place of an image, under its time."""
    path = folder / "train/cat/03.png"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def add_class(folder: Path) -> None:
    (folder / "train/emu").mkdir()
    (folder / "train/emu/00.png").write_bytes(FILES["train/cat/00.png"])


CHANGES = {
    "an image replaced under its size and time": replace_image,
    "a class more": add_class,
    "an image moved to another class": lambda folder: (folder / "train/cat/03.png").rename(
        folder / "train/dog/x.png"
    ),
    "two classes exchanged": lambda folder: [
        (folder / "train" / old).rename(folder / "train" / new)
        for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog"))
    ],
    "a class renamed": lambda folder: (folder / "train/cat").rename(folder / "train/cow"),
    "an image less": lambda folder: (folder / "test/dog/00.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("hashed")
def test_other_files_or_labels_have_another_digest(folder: Path, change: str) -> None:
    first = digest(folder)
    CHANGES[change](folder)
    assert digest(folder) != first
    shutil.rmtree(folder)
    write_folder(folder, FILES)
    assert digest(folder) == first


def test_what_is_no_image_does_not_count(folder: Path) -> None:
    first = digest(folder)
    (folder / "README.txt").write_text("pets")
    assert digest(folder) == first


def test_the_place_does_not_count(folder: Path, tmp_path: Path) -> None:
    assert digest(write_folder(tmp_path / "elsewhere" / "copy", FILES)) == digest(folder)


def test_archives_are_known_by_their_bytes(tmp_path: Path, hashed: list[str]) -> None:
    path = write_zip(tmp_path / "pets.zip", FILES)
    first = digest(path)
    assert (digest(path), hashed) == (first, [""])
    assert digest(write_tar(tmp_path / "pets.tar", FILES, "w")) != first
    write_zip(path, FILES | {"train/cat/03.png": FILES["train/dog/03.png"]})
    assert digest(path) != first


def test_a_file_that_changed_just_now_is_read_again(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change again within the same step of the clock."""
    monkeypatch.setattr(content, "TICK_NS", 3600 * 10**9)
    first = digest(folder)
    assert digest(folder) == first
    assert len(hashed) == 2 * len(FILES)


@pytest.mark.parametrize("damage", [b"", b"[]\n[[]]", b'["a", "b"]\n[["train/cat/03.png", 1]]', b"\xff", None])
def test_a_memory_that_cannot_be_read_or_written_costs_only_time(
    folder: Path, hashed: list[str], damage: bytes | None
) -> None:
    first = digest(folder)
    memory = folder.parent / "root" / content.FOLDER
    if damage is None:
        shutil.rmtree(memory)
        memory.write_text("no folder")
    else:
        next(memory.glob("*.safetensors")).write_bytes(damage)
    assert digest(folder) == first
    assert len(hashed) == 2 * len(FILES)


def test_nothing_is_read_where_that_is_not_wanted(folder: Path, hashed: list[str]) -> None:
    root = folder.parent / "root"
    assert folder_content(folder, root, read=False) is None
    assert hashed == []
    known = digest(folder)
    assert folder_content(folder, root, read=False) == known


def test_what_is_not_there_has_no_digest(tmp_path: Path) -> None:
    assert folder_content(tmp_path / "nothing", tmp_path) is None
