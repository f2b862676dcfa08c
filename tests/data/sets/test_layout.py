"""What lies in a folder or an archive beside the images of its classes."""

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distill.data.sets.inventory import take_inventory
from distill.errors import UserError
from tests.data.sets.image_files import load_path, make_files, square, write_folder, write_tar, write_zip
from tests.memory import forget_data_sets

pytestmark = pytest.mark.fault("other things in a folder of images")

Write = Callable[[Path, dict[str, bytes]], Path]
WRITERS: dict[str, Write] = {
    "folder": lambda path, files: write_folder(path / "pets", files),
    "tar": lambda path, files: write_tar(path / "pets.tar", files, "w"),
    "zip": lambda path, files: write_zip(path / "pets.zip", files),
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Write:
    return WRITERS[request.param]


PROGRAMS = (".ipynb_checkpoints", "@eaDir", ".Trash-1000", "lost+found", "__MACOSX")


@pytest.mark.parametrize("program", PROGRAMS)
def test_folders_of_programs_are_no_classes(tmp_path, write, program):
    plain = load_path(write_folder(tmp_path / "plain", make_files()), tmp_path / "root")
    within = (f"train/{program}", f"test/{program}/cat", f"train/cat/{program}", f"{program}/train/emu")
    files = make_files() | {f"{folder}/0.png": square() for folder in within}
    path = write(tmp_path, files)
    ours = load_path(path, tmp_path / "root")
    assert (ours.classes, ours.fingerprint) == (plain.classes, plain.fingerprint)
    assert take_inventory(path).left_out == f"4 files in {program}"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_without_an_image_that_can_be_read_is_refused(tmp_path, write, split):
    files = {name.replace(".png", ".xyz") if name.startswith(f"{split}/cat/") else name: data
             for name, data in make_files().items()}  # fmt: skip
    with pytest.raises(
        UserError, match=rf"\({split}/cat\)': expected an image that can be read in each class folder"
    ):
        load_path(write(tmp_path, files), tmp_path / "root")


def test_an_empty_class_is_refused_even_when_the_others_were_decoded(tmp_path):
    path = write_folder(tmp_path / "pets", make_files())
    load_path(path, tmp_path / "root")
    (path / "train" / "emu").mkdir()
    forget_data_sets()
    with pytest.raises(UserError, match="train/emu"):
        load_path(path, tmp_path / "root")


def test_an_empty_class_of_an_archive_is_refused(tmp_path):
    with tarfile.open(write_tar(tmp_path / "a.tar", make_files(), "w"), "a") as archive:
        member = tarfile.TarInfo("train/emu")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    with zipfile.ZipFile(write_zip(tmp_path / "b.zip", make_files()), "a") as archive:
        archive.mkdir("train/emu")
    for name in ("a.tar", "b.zip"):
        with pytest.raises(UserError, match="train/emu"):
            load_path(tmp_path / name, tmp_path / "root")


@pytest.mark.parametrize("prefixes", [("cats/", "dogs/"), ("", "old/")])
def test_two_data_sets_are_not_merged(tmp_path, write, prefixes):
    files = {prefix + name: data for prefix in prefixes for name, data in make_files().items()}
    with pytest.raises(UserError, match=f"one data set, not one at .* and another at {prefixes[1]}"):
        load_path(write(tmp_path, files), tmp_path / "root")


def three_splits() -> dict[str, bytes]:
    return make_files() | {name: data for name, data in make_files("val").items() if name.startswith("val/cat")}


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_val_beside_test_is_the_held_out_split(tmp_path, write, held_out):
    ours = load_path(write(tmp_path, three_splits()), tmp_path / "root", held_out=held_out)
    assert (len(ours.train), len(ours.held_out), len(ours.test)) == (20, 4, 8)
    assert ours.held_out.labels.tolist() == [0] * 4
    assert torch.equal(ours.held_out.images[:, 0, 0, 0], torch.arange(4, dtype=torch.uint8))
    assert torch.equal(ours.positions, torch.arange(20))
    assert ours.held_out_apart


def test_val_beside_test_and_a_share_are_refused(tmp_path, write):
    with pytest.raises(UserError, match=r"data\.held_out = 0\.2: expected 0\.1, its default"):
        load_path(write(tmp_path, three_splits()), tmp_path / "root", held_out=0.2)


def test_val_has_no_class_that_train_lacks(tmp_path, write):
    with pytest.raises(UserError, match=r"val classes that train/ has too.*emu"):
        load_path(write(tmp_path, {**three_splits(), "val/emu/0.png": square()}), tmp_path / "root", held_out=0.0)


def test_one_line_says_what_was_loaded_and_what_was_left_out(tmp_path, write, capsys):
    from distill.config import DataConfig
    from distill.data.sets.load import load

    others = (
        "train/@eaDir/1.png",
        "train/cat/.x.png",
        "train/1.png",
        "train/cat/a.gif",
        "train/cat/b.gif",
        "README",
    )
    path = write(tmp_path, three_splits() | dict.fromkeys(others, square()))
    config = DataConfig(name=f"imagefolder:{path}")
    for _ in range(2):
        forget_data_sets()
        load(config, tmp_path / "root", progress=True)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("imagefolder:")]
        said = "2 classes, 20 train, 4 held-out, 8 test images; left out: 1 file in @eaDir, 1 file hidden, "
        said += "1 file not in a class folder of train/, val/ or test/, 2 files of other types, such as train/cat/"
        assert len(lines) == 1
        assert lines[0].startswith(f"{config.name}: {said}")
    forget_data_sets()
    load(config, tmp_path / "root", progress=False)
    assert capsys.readouterr().err == ""


def test_names_of_other_files_cannot_write_to_the_terminal(tmp_path, write):
    names = ["\x1b[2J/x.png", "train/.\x1b[2J/x.png", "train/cat/\x1b[2J.xyz", "train/.\n/1.png"]
    left_out = take_inventory(write(tmp_path, make_files() | dict.fromkeys(names, square()))).left_out
    assert left_out.isprintable()
