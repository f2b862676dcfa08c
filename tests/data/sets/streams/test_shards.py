"""Images in tar shards: in class folders, and with the number of their class beside them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from distill.config import DataConfig
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.data.sets.streams.shards import split_of
from distill.errors import UserError
from tests.data.sets.image_files import load_path, make_files, write_folder, write_tar
from tests.data.sets.streams.test_stream import assert_same_images

FILES = make_files()
CLASSES = ("cat", "dog")


def shards(path: Path, files: dict[str, bytes], per_shard: int = 6) -> Path:
    """Pack the files of each split, without its name, in tars of a few files each."""
    path.mkdir(parents=True)
    for split in ("train", "test"):
        inside = {name.partition("/")[2]: data for name, data in files.items() if name.startswith(f"{split}/")}
        names = sorted(inside)
        for number, first in enumerate(range(0, len(names), per_shard)):
            some = {name: inside[name] for name in names[first : first + per_shard]}
            write_tar(path / f"{split}-{number:04}.tar", some, "w")
    return path


def numbered(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same images as WebDataset names them: KEY.png beside KEY.cls."""
    made = {}
    for name, data in files.items():
        split, label, file = name.split("/")
        made[f"{split}/{label}{file}"] = data
        made[f"{split}/{label}{file.replace('.png', '.cls')}"] = str(CLASSES.index(label)).encode()
    return made


def of(path: Path, root: Path, **kwargs: object) -> Dataset:
    return load(DataConfig(name=f"shards:{path}", held_out=0.2, kwargs=kwargs), root, progress=False)


@pytest.fixture
def decoded(tmp_path: Path) -> Dataset:
    return load_path(write_folder(tmp_path / "pets", FILES), tmp_path / "root")


def test_class_folders_in_shards_are_those_of_a_folder(tmp_path, decoded):
    assert_same_images(of(shards(tmp_path / "shards", FILES), tmp_path / "root"), decoded)
    assert_same_images(of(shards(tmp_path / "more", FILES, 3), tmp_path / "root"), decoded)


def test_numbered_classes_take_their_names_from_a_list(tmp_path, decoded):
    path = shards(tmp_path / "shards", numbered(FILES))
    assert of(path, tmp_path / "root").classes == ("0", "1")
    (path / "classes.txt").write_text("cat\ndog\n")
    assert_same_images(of(path, tmp_path / "root"), decoded)
    (path / "classes.txt").write_text("a kitten\na cat\n")
    assert of(path, tmp_path / "root").classes == ("a kitten", "a cat")


def test_shards_without_splits_are_split_by_a_share(tmp_path):
    path = shards(tmp_path / "shards", {name: data for name, data in FILES.items() if name.startswith("train/")})
    for number, each in enumerate(sorted(path.iterdir())):
        each.rename(path / f"{number:03}.tar")
    data = of(path, tmp_path / "root", test=0.3)
    assert [len(split) for split in (data.train, data.held_out, data.test)] == [12, 2, 6]
    with pytest.raises(UserError, match="the share of test images"):
        of(path, tmp_path / "root")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-0001.tar", "train"),
        ("imagenet1k-validation-07.tar", "val"),
        ("test/0001.tar", "test"),
        ("a/training/valid-1.tar", "val"),
        ("trains.tar", ""),
        ("contest.tar", ""),
        ("0001.tar", ""),
    ],
)
def test_the_path_of_a_shard_names_its_split(name, split):
    assert split_of(name) == split


def _cut(path: Path) -> None:
    shard = path / "train-0001.tar"
    shard.write_bytes(shard.read_bytes()[:1000])


def _packed(path: Path) -> None:
    with tarfile.open(path / "train-0009.tar", "w:gz") as archive:
        archive.add(path / "test-0000.tar", "cat/x.png")


BAD = {
    "no shard": (lambda path: [each.unlink() for each in path.iterdir()], "tar files, such as train-0000"),
    "a cut shard": (_cut, "a complete tar"),
    "a compressed shard": (_packed, "not compressed as a whole"),
    "an image without a class": (
        lambda path: write_tar(path / "train-0009.tar", {"x.png": FILES["test/cat/00.png"]}, "w"),
        r"train-0009\.tar/x\.png.*an image with a class",
    ),
    "one name in two shards": (
        lambda path: write_tar(path / "train-0009.tar", {"cat/00.png": FILES["test/cat/00.png"]}, "w"),
        "each name once in all shards",
    ),
    "a word for a number": (
        lambda path: write_tar(path / "train-0009.tar", {"x.png": b"", "x.cls": b"cat"}, "w"),
        r"the number of a class, not b'cat'",
    ),
    "a long label": (
        lambda path: write_tar(path / "train-0009.tar", {"x.png": b"", "x.cls": b"1" * 99}, "w"),
        "a label of at most 20 bytes",
    ),
    "a link": (
        lambda path: write_tar(path / "train-0009.tar", {"../x/y.png": b""}, "w"),
        "a path within the archive",
    ),
}


@pytest.mark.fault("hostile archives, weights, arrays and records")
@pytest.mark.parametrize("case", BAD)
def test_bad_shards_are_refused_in_one_line(tmp_path, case):
    path = shards(tmp_path / "shards", FILES)
    change, expected = BAD[case]
    change(path)
    with pytest.raises(UserError, match=expected) as error:
        of(path, tmp_path / "root")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "root").glob("listed/*/meta.json"))


@pytest.mark.parametrize("names", ["cat\n", "cat\ncat\n"])
def test_a_list_of_names_has_one_for_each_class(tmp_path, names):
    path = shards(tmp_path / "shards", numbered(FILES))
    (path / "classes.txt").write_text(names)
    with pytest.raises(UserError, match=r"classes\.txt.*a name of its own for each class from 0 to 1"):
        of(path, tmp_path / "root")


def test_a_new_shard_makes_another_data_set(tmp_path):
    path = shards(tmp_path / "shards", FILES)
    first = of(path, tmp_path / "root")
    write_tar(path / "train-0009.tar", {"cat/new.png": FILES["test/cat/00.png"]}, "w")
    second = of(path, tmp_path / "root")
    assert len(second.train) + len(second.held_out) == len(first.train) + len(first.held_out) + 1
    assert second.fingerprint != first.fingerprint


def test_a_decoded_copy_of_shards_is_not_made(tmp_path):
    with pytest.raises(UserError, match="true for shards, which has no decoded copy"):
        of(shards(tmp_path / "shards", FILES), tmp_path / "root", stream=False)
