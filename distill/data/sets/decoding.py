"""Decode image files to pixels, in threads, with a limit on the memory of waiting files."""

from __future__ import annotations

import io
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from distill.data.sets.archives import Encoded
from distill.data.sets.fitting import Fit, fitted
from distill.errors import UserError
from distill.system.runtime import cores

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 89_478_485
"""Largest number of pixels of an image that is decoded; Pillow warns above this number."""
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF")
"""Formats that are decoded, whatever the name of the file says.

Other formats start programs (EPS) or are not used for images of data sets.
"""
LARGE = 1 << 24
"""Number of pixels above which only one image is decoded at a time."""
FILES, ALPHA, TURNED = "files", "alpha", "turned"
"""What is counted: all files, those with an alpha channel, those with an EXIF orientation that is not applied."""
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0112, 258, 262
_IMAGES_PER_WORKER = 64
BYTES_READ = 64 << 20
"""Bytes of files that are read at a time; the last file may go beyond them."""
_one_large = threading.Lock()


@contextmanager
def pillow_is_strict() -> Iterator[None]:
    """Make Pillow's warning of a decompression bomb an error in all threads, and hide its other warnings.

    This holds until the end of the block.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


class Reading(NamedTuple):
    """Say how the bytes of a file become the pixels of an image."""

    fit: Fit = Fit()
    exif: bool = False
    """Whether the image is turned as its EXIF orientation says; as in torchvision, False turns only a TIFF."""
    draft: int | None = None
    """Least side in pixels to which a JPEG may be shrunk while it is decoded, which is faster; None decodes all."""


def decode_into(
    images: UInt8[np.ndarray, "n c h w"], encoded: Iterator[Encoded], reading: Reading, bar: Any
) -> Counter[str]:
    """Decode image files into an array; count the files, those with alpha, and those with an ignored EXIF rotation.

    The bar's method `update` is called with numbers of files.

    Raises:
        UserError: an image cannot be decoded, or has another shape.
    """
    # Threads work in parallel, since Pillow decodes without the interpreter lock. While they decode one load of
    # files, the next is read: memory holds no more than two, however large a file is.
    met, workers = Counter[str](), cores()
    running: list[Future[Counter[str]]] = []

    def finish() -> None:
        for done in running:
            met.update(done.result())
            bar.update(done.result()[FILES])

    with ThreadPoolExecutor(workers) as pool:
        try:
            while files := _next_files(encoded, _IMAGES_PER_WORKER * workers):
                finish()
                parts = (files[i::workers] for i in range(workers))
                running = [pool.submit(_decode_part, part, images, reading) for part in parts]
            finish()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return met


def _next_files(encoded: Iterator[Encoded], most: int) -> list[Encoded]:
    """Take the next files, fewer than `most` if they are large."""
    files: list[Encoded] = []
    size = 0
    for entry in islice(encoded, most):
        files.append(entry)
        size += len(entry[2])
        if size > BYTES_READ:
            break
    return files


def _decode_part(part: list[Encoded], images: UInt8[np.ndarray, "n c h w"], reading: Reading) -> Counter[str]:
    met = Counter({FILES: len(part)})
    for row, name, data in part:
        images[row] = of_shape(decode(name, data, reading, met), images.shape[1:], name)
    return met


def of_shape(pixels: UInt8[np.ndarray, "c h w"], shape: tuple[int, ...], name: str) -> UInt8[np.ndarray, "c h w"]:
    """Return the pixels of a file, or refuse them where they have another shape than the other images."""
    if pixels.shape != shape:
        expected = f"images of one shape, {shape}, not {pixels.shape} as {name}"
        raise UserError("data.kwargs", {}, expected, 'Give a size, as in `data.kwargs={"size": 64}`.')
    return pixels


def decode(
    name: str,
    data: bytes,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    met: Counter[str] | None = None,
) -> UInt8[np.ndarray, "c h w"]:
    """Decode one image as RGB pixels, fitted to a square where `reading` has a size; see `decoded`."""
    with _naming(name, data):
        return np.asarray(fitted(decoded(name, data, reading, met), reading.fit)).transpose(2, 0, 1)


def decoded(name: str, data: bytes, reading: Reading, met: Counter[str] | None = None) -> Image.Image:
    """Decode one image as RGB, as torchvision's ImageFolder does: alpha is dropped, not blended with a background.

    Grey levels of 16 bits are scaled to 8 bits, which torchvision does not do.

    Args:
        name: name of the file.
        data: bytes of the file.
        reading: how it is read; the image is not yet fitted to a square.
        met: counter in which `ALPHA` and `TURNED` are counted.

    Raises:
        UserError: the image is damaged, of another format, has more than `PIXELS` pixels, or has grey levels of
            32 bits, of which nothing says where white is.
    """
    from PIL import Image, ImageOps

    with _naming(name, data), Image.open(io.BytesIO(data), formats=_FORMATS) as file:
        pixels = file.width * file.height
        if pixels > PIXELS:
            raise ValueError(f"{file.width} × {file.height} pixels")
        if reading.draft:
            file.draft("RGB", (reading.draft, reading.draft))  # does nothing to another format
        with _one_large if pixels > LARGE else nullcontext():
            image: Image.Image = file
            if reading.exif:
                image = ImageOps.exif_transpose(file)
            elif met is not None and _is_turned(file):
                met[TURNED] += 1
            if met is not None and file.has_transparency_data:
                met[ALPHA] += 1
            return _eight_bits(image, _grey_range(file, name)).convert("RGB")


@contextmanager
def _naming(name: str, data: bytes) -> Iterator[None]:
    """Turn the error of an image that cannot be decoded into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise many types for damaged bytes
        value = f"{name} ({len(data):,} bytes)"
        expected = f"an image that can be decoded, of at most {PIXELS:,} pixels"
        raise UserError("image", value, expected, f"Replace or remove it ({str(error)[:200]}).") from error


def _is_turned(file: Image.Image) -> bool:
    if file.format == "TIFF":  # Pillow, and so torchvision, always applies the orientation of a TIFF
        return False
    with suppress(Exception):  # damaged EXIF data do not matter where they are not used
        return file.getexif().get(_ORIENTATION, 1) not in (0, 1)
    return False


def _grey_range(file: Image.Image, name: str) -> tuple[int, int] | None:
    """Return the pixel values of black and white in a grey image of more than 8 bits; None for other images.

    Raises:
        UserError: it has grey levels of 32 bits or floats.
    """
    # PNG has 16 bits at most, and Pillow scales the levels of a PGM to 16 bits, whatever the mode says.
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):
        tags = getattr(file, "tag_v2", {})
        highest = (1 << tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
        # A TIFF may say that 0 is white, which Pillow minds with 8 bits only.
        return (highest, 0) if tags.get(_PHOTOMETRIC) == 0 else (0, highest)
    if file.mode[0] in "IF":
        kind = "floats" if file.mode[0] == "F" else "integers of 32 bits"
        expected = "grey levels of at most 16 bits, since nothing says which number is white"
        way_out = "Scale it to 0..255, and save it with 8 bits, or to 0..65535 with 16 bits."
        raise UserError("image", f"{name} (mode {file.mode}, {kind})", expected, way_out)
    return None


def _eight_bits(image: Image.Image, grey_range: tuple[int, int] | None) -> Image.Image:
    """Scale an image of more than 8 bits to 8 bits; return other images as they are."""
    from PIL import Image

    if grey_range is None:
        return image
    black, white = grey_range
    levels = (np.asarray(image).astype(np.float64) - black) * (255 / (white - black))
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
