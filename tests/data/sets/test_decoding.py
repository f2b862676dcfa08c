"""Images that are decoded side by side."""

from __future__ import annotations

import io
import struct
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from distill.config import DataConfig
from distill.data.sets import decoding
from distill.data.sets.decoding import Reading
from distill.data.sets.fitting import Fit
from distill.data.sets.load import load
from distill.errors import UserError
from tests.data.sets.image_files import WHOLE, decode, write_folder

pytestmark = pytest.mark.fault("images of another depth or kind")


def test_large_images_in_flight_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "BYTES_READ", 1 << 10)
    monkeypatch.setattr(decoding, "LARGE", 1)
    assert len(decode(write_folder(tmp_path / "folder", WHOLE), tmp_path / "root").images) == len(WHOLE)


def encoded(image: Image.Image, kind: str, **options) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"x.{kind}", buffer.getvalue()


DEEP = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
SCALED = np.rint(DEEP / 257).astype(np.uint8)


@pytest.mark.parametrize(("kind", "order"), [("png", "<"), ("tiff", "<"), ("tiff", ">")])
def test_grey_levels_of_16_bits_are_scaled(kind, order):
    image = Image.fromarray(DEEP.astype(f"{order}u2"))
    pixels = decoding.decode(*encoded(image, kind))
    assert np.array_equal(pixels, np.stack([SCALED] * 3))
    assert decoding.decode(*encoded(image, kind), Reading(Fit(4))).shape == (3, 4, 4)


@pytest.mark.parametrize("white", [65535, 4095, 255])
def test_a_pgm_says_which_number_is_white(white):
    levels = np.rint(np.linspace(0, white, 64)).astype(">u2" if white > 255 else np.uint8)
    pixels = decoding.decode("x.pgm", b"P5 8 8 %d\n" % white + levels.tobytes())
    assert np.abs(pixels[0].reshape(-1) - levels.astype(float) * 255 / white).max() <= 0.51


def test_a_tiff_of_12_bits_is_scaled_by_its_own_white():
    name, data = encoded(Image.fromarray(np.full((8, 8), 4095, np.uint16)), "tiff")
    packed = bytearray(data)
    at = packed.index(struct.pack("<HHIH", 258, 3, 1, 16))
    packed[at : at + 10] = struct.pack("<HHIH", 258, 3, 1, 12)
    assert decoding.decode(name, bytes(packed).replace(b"\xff\x0f", b"\xff\xff")).min() == 255


@pytest.mark.parametrize("levels", [DEEP, (DEEP >> 8).astype(np.uint8)])
def test_a_tiff_may_say_that_zero_is_white(levels):
    name, data = encoded(Image.fromarray(levels), "tiff")
    black, white = (struct.pack("<HHIH", 262, 3, 1, zero) for zero in (1, 0))
    assert data.count(black) == 1
    turned = decoding.decode(name, data.replace(black, white))
    assert np.array_equal(turned, 255 - decoding.decode(name, data))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_levels_of_32_bits_are_refused_with_their_mode(dtype):
    image = Image.fromarray(np.full((4, 4), 7, dtype))
    with pytest.raises(UserError, match=rf"x\.tiff \(mode {image.mode}, .*save it with 8 bits"):
        decoding.decode(*encoded(image, "tiff"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK", "RGB"])
def test_images_of_other_modes_are_what_torchvision_makes_of_them(tmp_path, mode):
    from torchvision.datasets.folder import default_loader

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    entry = encoded(Image.fromarray(pixels).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode), "tiff")
    (tmp_path / "x.tiff").write_bytes(entry[1])
    theirs = np.asarray(default_loader(str(tmp_path / "x.tiff"))).transpose(2, 0, 1)
    assert np.array_equal(decoding.decode(*entry), theirs)


def test_alpha_is_dropped_and_counted():
    met = Counter[str]()
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert decoding.decode(*encoded(image, "png"), met=met)[:, 0, 0].tolist() == [10, 20, 30]
    assert met == {decoding.ALPHA: 1}


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_exif_orientation_is_applied_on_demand_and_counted_otherwise(kind):
    exif, met = Image.Exif(), Counter[str]()
    exif[0x0112] = 6
    image = Image.fromarray(np.kron([[0, 255], [0, 255]], np.ones((8, 12))).astype(np.uint8))
    entry = encoded(image, kind, exif=exif)
    assert decoding.decode(*entry, met=met).shape == (3, 16, 24)
    assert met == {decoding.TURNED: 1}
    turned = decoding.decode(*entry, Reading(exif=True), met)
    assert turned.shape == (3, 24, 16)
    assert turned[0, 0].max() < 10 < 245 < turned[0, -1].min()
    assert met == {decoding.TURNED: 1}


def test_a_tiff_is_turned_in_any_case_as_torchvision_does(tmp_path):
    from torchvision.datasets.folder import default_loader

    image, met = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)), Counter[str]()
    entry = encoded(image, "tiff", tiffinfo={0x0112: 6})
    (tmp_path / "x.tiff").write_bytes(entry[1])
    theirs = np.asarray(default_loader(str(tmp_path / "x.tiff"))).transpose(2, 0, 1)
    assert theirs.shape == (3, 3, 2)
    for exif in (False, True):
        assert np.array_equal(decoding.decode(*entry, Reading(exif=exif), met), theirs)
    assert not met


def test_16_bits_are_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    entry = encoded(Image.fromarray(DEEP), "png", exif=exif)
    assert np.array_equal(decoding.decode(*entry, Reading(exif=True))[0], np.rot90(SCALED, -1))


def test_damaged_exif_does_not_matter_where_it_is_not_applied():
    entry = encoded(Image.new("RGB", (4, 4)), "png", exif=b"Exif\0\0no such thing")
    assert decoding.decode(*entry, met=Counter()).shape == (3, 4, 4)


def test_the_line_at_loading_says_what_of_the_images_was_not_kept(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    files = WHOLE | {
        "train/a/alpha.png": encoded(Image.new("RGBA", (4, 4)), "png")[1],
        "train/a/turned.png": encoded(Image.new("RGB", (4, 4)), "png", exif=exif)[1],
    }
    config = DataConfig(name=f"imagefolder:{write_folder(tmp_path / 'folder', files)}")
    load(config, tmp_path / "root")
    said = (
        'alpha dropped in 1 of them; EXIF orientation not applied in 1 of them (`data.kwargs={"exif": true}` does)'
    )
    assert capsys.readouterr().err.splitlines()[-1].endswith(said)
    load(config.replace(kwargs={"exif": True}), tmp_path / "root")
    assert capsys.readouterr().err.splitlines()[-1].endswith("test images; alpha dropped in 1 of them")
