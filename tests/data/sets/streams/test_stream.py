"""Images that are decoded when a batch needs them are the images of the decoded copy."""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import RandomResizedCrop

from distill.config import AugmentConfig, DataConfig
from distill.data.hashing import Stream, counter_hash
from distill.data.loader import Loader
from distill.data.sets import archives, content, inventory
from distill.data.sets.dataset import Dataset
from distill.data.sets.fitting import Fit, fitted
from distill.data.sets.load import load
from distill.data.sets.streams import stream
from distill.data.sets.streams.images import StreamedImages
from distill.data.views.views import Views
from distill.errors import UserError
from distill.system import trust
from tests.data.sets.image_files import load_path, make_files, png, write_folder, write_tar, write_zip
from tests.memory import forget_data_sets

FILES = make_files()
PLACES: dict[str, Callable[[Path], Path]] = {
    "folder": lambda path: write_folder(path / "pets", FILES),
    "tar": lambda path: write_tar(path / "pets.tar", FILES, "w"),
    "zip": lambda path: write_zip(path / "pets.zip", FILES),
}
VIEWS = {
    "none": AugmentConfig(),
    "crop": AugmentConfig(pad=2, flip=True),
    "mixup": AugmentConfig(pad=1, mixup=0.4),
    "cutmix": AugmentConfig(flip=True, cutmix=1.0),
    "program": AugmentConfig(program="torchvision.transforms.v2:RandomHorizontalFlip"),
}


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "current", trust.Trusted())
    for name in ("RandomHorizontalFlip", "RandomResizedCrop"):
        trust.name(f"torchvision.transforms.v2:{name}")


def pixels(data: Dataset, split: str) -> torch.Tensor:
    return getattr(data, split).pixels(torch.arange(len(getattr(data, split))))


def assert_same_images(one: Dataset, other: Dataset) -> None:
    assert (one.classes, one.mean, one.std, one.shape) == (other.classes, other.mean, other.std, other.shape)
    assert torch.equal(one.positions, other.positions)
    assert one.held_out_apart == other.held_out_apart
    for split in ("train", "held_out", "test"):
        assert torch.equal(getattr(one, split).labels, getattr(other, split).labels)
        assert torch.equal(pixels(one, split), pixels(other, split))


@pytest.mark.parametrize("place", PLACES)
def test_it_has_the_images_of_the_decoded_copy(tmp_path, place):
    path = PLACES[place](tmp_path)
    for held_out in (0.0, 0.2):
        assert_same_images(
            load_path(path, tmp_path / "root", held_out, stream=True), load_path(path, tmp_path / "root", held_out)
        )


@pytest.mark.parametrize("more", [{"limit": 7}, {"label_noise": 0.5}, {"split_seed": 3}])
def test_limits_noise_and_splits_are_as_ever(tmp_path, more):
    name = f"imagefolder:{PLACES['folder'](tmp_path)}"
    one, other = (
        load(DataConfig(name=name, kwargs=kwargs, **more), tmp_path / "root", progress=False)
        for kwargs in ({}, {"stream": True})
    )
    assert_same_images(one, other)


def test_a_published_split_and_a_share_are_as_ever(tmp_path):
    of_val = {name.replace("test/", "val/"): data for name, data in FILES.items()} | FILES
    apart, root = write_folder(tmp_path / "apart", of_val), tmp_path / "root"
    assert_same_images(load_path(apart, root, 0.1, stream=True), load_path(apart, root, 0.1))
    alone = write_folder(tmp_path / "alone", {name.partition("/")[2]: data for name, data in FILES.items()})
    given = {"test": 0.3, "seed": 1}
    assert_same_images(load_path(alone, root, stream=True, **given), load_path(alone, root, **given))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("views", VIEWS)
def test_batches_are_those_of_the_decoded_copy(tmp_path, views, workers):
    path = PLACES["folder"](tmp_path)
    one, other = (load_path(path, tmp_path / "root", **kwargs) for kwargs in ({}, {"stream": True}))
    loaders = [
        Loader(Views.of_training(data, VIEWS[views], 5), 4, seed=1, workers=workers) for data in (one, other)
    ]
    for epoch, start in ((0, 0), (3, 2)):
        whole, streamed = (list(loader.epoch(epoch, start)) for loader in loaders)
        assert len(whole) == len(streamed) == 4 - start
        for ours, theirs in zip(whole, streamed, strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.index, theirs.index)


def test_a_program_is_given_the_original(tmp_path):
    """A random crop is one of the whole photograph, and not of its resized copy."""
    files = {f"{s}/{c}/{i}.png": photograph(i) for s in ("train", "test") for c in "ab" for i in range(3)}
    path = write_folder(tmp_path / "photographs", files)
    data = load_path(path, tmp_path / "root", 0.0, stream=True, size=16)
    crop = AugmentConfig(program="torchvision.transforms.v2:RandomResizedCrop", kwargs={"size": 16})
    views = Views.of_training(data, crop, 7)
    index = torch.tensor([4, 1])
    rendered = views.pixels(index, 2)
    for row, word in enumerate(counter_hash(Stream.PROGRAM, 7, 2, index).tolist()):
        torch.manual_seed(word)
        random.seed(word & ((1 << 64) - 1))
        whole = Image.open(path / "train" / "ab"[index[row] // 3] / f"{index[row] % 3}.png")
        assert np.array_equal(rendered[row].numpy().transpose(1, 2, 0), RandomResizedCrop(16)(whole))


def photograph(seed: int, side: tuple[int, int] = (40, 60), kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    numbers = np.random.default_rng(seed).integers(0, 256, (*side, 3), np.uint8)
    Image.fromarray(numbers).save(buffer, kind)
    return buffer.getvalue()


def test_a_network_may_have_a_fit_of_its_own(tmp_path):
    files = {f"{s}/{c}/{i}.png": photograph(i) for s in ("train", "test") for c in "ab" for i in range(2)}
    path = write_folder(tmp_path / "photographs", files)
    data = load_path(path, tmp_path / "root", 0.0, stream=True, size=16)
    fit = Fit(24, 0.9, "bicubic")
    images = data.test.images
    assert isinstance(images, StreamedImages)
    (own,) = images.fitted(fit)[torch.tensor([3])].split(8)
    expected = fitted(Image.open(path / "test/b/1.png"), fit)
    assert np.array_equal(own[0].numpy().transpose(1, 2, 0), expected)


def test_parts_are_decoded_in_order(tmp_path):
    images = load_path(PLACES["zip"](tmp_path), tmp_path / "root", stream=True).train.images
    assert isinstance(images, StreamedImages)
    whole = images.pixels(np.arange(len(images)))
    for size in (1, 3, 16, 100):
        parts = list(images.split(size))
        assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
        assert torch.equal(torch.cat(parts), whole)
    assert list(images[:0].split(4)) == []


@pytest.mark.parametrize("place", PLACES)
def test_another_process_reads_on(tmp_path, place):
    images = load_path(PLACES[place](tmp_path), tmp_path / "root", stream=True).train.images
    assert isinstance(images, StreamedImages)
    again: Any = pickle.loads(pickle.dumps(images))
    rows = np.array([3, 0])
    assert torch.equal(again.pixels(rows), images.pixels(rows))


def test_the_next_start_reads_no_names(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "TICK_NS", 0)
    path = PLACES["folder"](tmp_path)
    first = load_path(path, tmp_path / "root", stream=True)
    forget_data_sets()
    for module, name in ((archives, "image_files"), (content, "image_files"), (inventory, "take_inventory")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("names were read"))
    second = load_path(path, tmp_path / "root", stream=True)
    assert second is not first
    assert second.fingerprint == first.fingerprint


def test_the_fingerprint_is_that_of_files_and_of_how_they_are_read(tmp_path):
    path, root = PLACES["folder"](tmp_path), tmp_path / "root"
    first = load_path(path, root, stream=True).fingerprint
    elsewhere = load_path(write_folder(tmp_path / "moved" / "x", FILES), root, stream=True)
    assert elsewhere.fingerprint == first
    others = [load_path(path, root, stream=True, **more).fingerprint for more in ({"size": 4}, {"exif": True})]
    others.append(load_path(path, root, 0.1, stream=True).fingerprint)
    (path / "train/cat/00.png").write_bytes(png(np.ones((6, 5, 3), np.uint8)))
    forget_data_sets()
    others.append(load_path(path, root, stream=True).fingerprint)
    assert len({first, *others}) == 5


def test_of_many_images_some_are_drawn_for_the_mean(tmp_path, monkeypatch):
    path = PLACES["folder"](tmp_path)
    whole = load_path(path, tmp_path / "root", stream=True)
    monkeypatch.setattr(stream, "_PIXELS", 6 * 5 * 4)
    monkeypatch.setattr(stream, "_VERSION", 0)
    forget_data_sets()
    part = load_path(path, tmp_path / "root", stream=True)
    drawn = counter_hash(Stream.SCALE, 0, 0, torch.arange(16)).argsort()[:4]
    expected = part.train.pixels(drawn).double().mean((0, 2, 3)) / 255
    assert part.mean != whole.mean
    assert part.mean == pytest.approx(expected.tolist())


def test_a_draft_shrinks_large_jpegs_while_it_decodes(tmp_path):
    names = [f"{split}/{label}/{i}.jpg" for split in ("train", "test") for label in "ab" for i in range(2)]
    files = {name: photograph(len(name), (64, 96), "jpeg") for name in names}
    path = write_folder(tmp_path / "photographs", files)
    data = load_path(path, tmp_path / "root", 0.0, stream=True, size=16, draft=20)
    images = data.train.images
    assert isinstance(images, StreamedImages)
    assert images.original(0).size == (48, 32)
    with Image.open(path / "train/a/0.jpg") as file:
        file.draft("RGB", (20, 20))
        assert np.array_equal(images.original(0), file)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named(tmp_path, workers):
    path, root = PLACES["folder"](tmp_path), tmp_path / "root"
    data = load_path(path, root, stream=True)
    broken = path / "train/dog/05.png"
    broken.write_bytes(broken.read_bytes()[:60])
    (path / "train/cat/04.png").unlink()
    with pytest.raises(
        UserError, match=r"train/(dog/05|cat/04)\.png.*an image that can be decoded|a file that can be"
    ):
        list(Loader(Views.of_training(data, AugmentConfig(), 0), 4, seed=1, workers=workers).epoch(0))
    forget_data_sets()
    with pytest.raises(UserError, match=r"image = 'train/dog/05\.png \(60 bytes\)'.*Replace or remove it") as error:
        load_path(path, root, stream=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", PLACES)
def test_broken_images_are_left_out_if_asked_and_told(tmp_path, place, monkeypatch, capsys):
    whole = {name: data for name, data in FILES.items() if name not in ("train/dog/05.png", "test/cat/01.png")}
    broken = {**FILES, "train/dog/05.png": b"no image", "test/cat/01.png": FILES["test/cat/01.png"][:70]}
    monkeypatch.setitem(globals(), "FILES", broken)
    path = PLACES[place](tmp_path)
    kwargs = {"stream": True, "broken": "skip"}
    data = load(DataConfig(name=f"imagefolder:{path}", held_out=0.2, kwargs=kwargs), tmp_path / "root")
    assert "left out: 2 that cannot be decoded, such as t" in capsys.readouterr().err
    assert_same_images(data, load_path(write_folder(tmp_path / "whole", whole), tmp_path / "root"))


REFUSED = {
    "a way of reading without a stream": ({"draft": 64}, "stream=true beside it"),
    "skipping without a stream": ({"broken": "skip"}, "stream=true beside it"),
    "a crop without a size": ({"stream": True, "crop": 0.9}, "a size beside it"),
    "a crop above 1": ({"size": 8, "crop": 1.5}, "a share above 0, at most 1"),
    "an unknown filter": ({"size": 8, "interpolation": "cubic"}, "one of bilinear, bicubic"),
    "a word for true": ({"stream": "yes"}, "true or false"),
    "nothing for skip": ({"stream": True, "broken": None}, "refuse or skip"),
    "a column of an image folder": ({"image": "img"}, "only size, crop"),
    "a list": ({"size": [8]}, "1 to 4,096 pixels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_stream_does_not_take_is_said(tmp_path, case):
    kwargs, expected = REFUSED[case]
    with pytest.raises(UserError, match=expected):
        load_path(PLACES["folder"](tmp_path), tmp_path / "root", **kwargs)
    assert not (tmp_path / "root").exists()


def test_images_of_several_shapes_want_a_size(tmp_path):
    path = write_folder(tmp_path / "pets", FILES | {"train/cat/wide.png": photograph(1)})
    with pytest.raises(
        UserError, match=r"one shape, \(3, 6, 5\), not \(3, 40, 60\) as train/cat/wide\.png.*Give a size"
    ):
        load_path(path, tmp_path / "root", stream=True)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_tar_that_is_compressed_as_a_whole_is_refused(tmp_path, mode):
    path = write_tar(tmp_path / f"pets.tar.{mode[2:]}", FILES, mode)
    with pytest.raises(UserError, match=r"not compressed as a whole.*Unpack it, or pack it as a plain \.tar"):
        load_path(path, tmp_path / "root", stream=True)


@pytest.mark.fault("images, labels or code that changed")
def test_a_listing_that_was_changed_is_refused(tmp_path):
    path, root = PLACES["tar"](tmp_path), tmp_path / "root"
    load_path(path, root, stream=True)
    (folder,) = (each for each in (root / "listed").iterdir() if each.is_dir())
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for damage in (whole[: len(whole) // 2], whole[:-1] + b"x"):
            file.write_bytes(damage)
            forget_data_sets()
            with pytest.raises(UserError, match=f"Delete {folder}: it is made again"):
                load_path(path, root, stream=True)
        file.write_bytes(whole)
    load_path(path, root, stream=True)
