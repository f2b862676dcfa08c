"""Decode image files to pixels, in threads, with a limit on the memory of waiting files."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import UInt8

from distill.data.sets.archives import Encoded
from distill.errors import UserError
from distill.system.runtime import cores

PIXELS = 89_478_485
"""Largest number of pixels of an image that is decoded; Pillow warns above this number."""
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF")
"""Formats that are decoded, whatever the name of the file says.

Other formats start programs (EPS) or are not used for images of data sets.
"""
LARGE = 1 << 24
"""Number of pixels above which only one image is decoded at a time."""
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


def decode_into(
    images: UInt8[np.ndarray, "n c h w"], encoded: Iterator[Encoded], size: int | None, bar: Any
) -> int:
    """Decode files to a size, as `decode` does, into their rows of an array; return the number of files.

    The bar's method `update` is called with numbers of files.

    Raises:
        UserError: an image cannot be decoded, or has another shape.
    """
    # Threads work in parallel, since Pillow decodes without the interpreter lock. While they decode one load of
    # files, the next is read: memory holds no more than two, however large a file is.
    count, workers = 0, cores()
    running: list[Future[int]] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            while files := _next_files(encoded, _IMAGES_PER_WORKER * workers):
                for done in running:
                    bar.update(done.result())
                count += len(files)
                running = [pool.submit(_decode_part, files[i::workers], images, size) for i in range(workers)]
            for done in running:
                bar.update(done.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return count


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


def _decode_part(part: list[Encoded], images: UInt8[np.ndarray, "n c h w"], size: int | None) -> int:
    for entry in part:
        pixels = decode(entry, size)
        if pixels.shape != images.shape[1:]:
            expected = f"images of one shape, {images.shape[1:]}, not {pixels.shape} as {entry[1]}"
            raise UserError("data.kwargs", {}, expected, 'Give a size, as in `data.kwargs={"size": 64}`.')
        images[entry[0]] = pixels
    return len(part)


def decode(entry: Encoded, size: int | None) -> UInt8[np.ndarray, "c h w"]:
    """Decode one image as RGB, with its shorter side resized to `size` and centre-cropped; None keeps its size.

    Raises:
        UserError: the image is damaged, of another format, or has more than `PIXELS` pixels.
    """
    from PIL import Image, ImageOps

    _, name, data = entry
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as file:
            pixels = file.width * file.height
            if pixels > PIXELS:
                raise ValueError(f"{file.width} × {file.height} pixels")
            with _one_large if pixels > LARGE else nullcontext():
                image = file.convert("RGB")
                if size is not None:
                    image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's readers raise many types for damaged bytes
        value = f"{name} ({len(data):,} bytes)"
        expected = f"an image that can be decoded, of at most {PIXELS:,} pixels"
        raise UserError("image", value, expected, f"Replace or remove it ({str(error)[:200]}).") from error
    return np.asarray(image).transpose(2, 0, 1)
