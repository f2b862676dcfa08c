"""Images of a data set of Hugging Face on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.config import DataConfig
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.errors import UserError
from tests.data.sets.image_files import load_path, make_files, write_folder
from tests.data.sets.streams.test_stream import assert_same_images

datasets = pytest.importorskip("datasets")
FILES = make_files()
CLASSES = ["cat", "dog"]


def rows(split: str, image: str = "image", label: str = "label", classes: bool = True) -> Any:
    names = sorted(name for name in FILES if name.startswith(f"{split}/"))
    numbers = [CLASSES.index(name.split("/")[1]) for name in names]
    kind = datasets.ClassLabel(names=CLASSES) if classes else datasets.Value("int64")
    features = datasets.Features({image: datasets.Image(), label: kind, "other": datasets.Value("string")})
    images = [{"bytes": FILES[name], "path": None} for name in names]
    return datasets.Dataset.from_dict({image: images, label: numbers, "other": names}, features=features)


def saved(path: Path, **splits: Any) -> Path:
    datasets.DatasetDict(splits).save_to_disk(str(path))
    return path


def parquet(path: Path, **splits: Any) -> Path:
    path.mkdir(parents=True)
    for name, each in splits.items():
        each.to_parquet(str(path / f"{name}-00000-of-00001.parquet"))
    return path


def of(path: Path, root: Path, **kwargs: object) -> Dataset:
    return load(DataConfig(name=f"hfdataset:{path}", held_out=0.2, kwargs=kwargs), root, progress=False)


@pytest.mark.parametrize("write", [saved, parquet])
def test_its_images_are_those_of_a_folder(tmp_path, write):
    path = write(tmp_path / "hf", train=rows("train"), test=rows("test"))
    decoded = load_path(write_folder(tmp_path / "pets", FILES), tmp_path / "root")
    assert_same_images(of(path, tmp_path / "root"), decoded)


def test_columns_are_found_or_named(tmp_path):
    named = {split: rows(split, "img", "fine", classes=False) for split in ("train", "test")}
    path = saved(tmp_path / "hf", **named)
    data = of(path, tmp_path / "root")
    assert data.classes == ("0", "1")
    assert len(data.train) == 16
    expected = r"one column of labels, this data set has fine\. Name it.*\"label\": \"fine\""
    with pytest.raises(UserError, match=expected):
        of(path, tmp_path / "root", label="coarse")
    assert of(path, tmp_path / "root", image="img", label="fine").fingerprint != data.fingerprint


def test_one_part_is_split_by_a_share(tmp_path):
    rows("train").save_to_disk(str(tmp_path / "hf"))
    data = of(tmp_path / "hf", tmp_path / "root", test=0.3)
    assert [len(split) for split in (data.train, data.held_out, data.test)] == [12, 2, 6]
    with pytest.raises(UserError, match="the share of test images"):
        of(tmp_path / "hf", tmp_path / "root")


def _cut(path: Path) -> None:
    file = next(path.rglob("*.arrow"))
    file.write_bytes(file.read_bytes()[:200])


def _emptied(path: Path) -> None:
    for each in path.rglob("*.json"):
        each.unlink()


BAD = {
    "nothing": (_emptied, "what `save_to_disk` wrote, or parquet"),
    "a cut file": (_cut, "a whole data set"),
}


@pytest.mark.fault("hostile archives, weights, arrays and records")
@pytest.mark.parametrize("case", BAD)
def test_a_bad_data_set_is_refused_in_one_line(tmp_path, case):
    path = saved(tmp_path / "hf", train=rows("train"), test=rows("test"))
    change, expected = BAD[case]
    change(path)
    with pytest.raises(UserError, match=expected) as error:
        of(path, tmp_path / "root")
    assert "\n" not in str(error.value)


def test_a_label_beyond_the_classes_is_refused(tmp_path):
    path = saved(tmp_path / "hf", train=rows("train", classes=False), test=rows("test", classes=False))
    whole = datasets.load_from_disk(str(path))
    wrong = whole["train"].add_column("wrong", [-1, *[0] * (len(whole["train"]) - 1)]).remove_columns("label")
    saved(tmp_path / "wrong", train=wrong.rename_column("wrong", "label"), test=whole["test"])
    with pytest.raises(UserError, match=r"row 0: label -1.*a class from 0 to"):
        of(tmp_path / "wrong", tmp_path / "root")
