"""Decode image files to pixels, in threads, with a limit on the memory of waiting files."""

from __future__ import annotations

import io
import threading
import warnings
from collections import deque
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
_LARGE = 1 << 24
"""Number of pixels above which only one image is decoded at a time."""
_IMAGES_PER_TASK = 64
_BYTES_IN_FLIGHT = 256 << 20
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
    """Decode images into their rows, and return their number.

    Args:
        images: array to fill.
        encoded: files with their rows.
        size: side in pixels, as in `decode`.
        bar: progress bar, whose `update` is called with a number of images.

    Raises:
        UserError: an image cannot be decoded, or has another shape.
    """
    # Threads work in parallel, since Pillow decodes without the interpreter lock. Few tasks wait, so that memory
    # stays small, however large a file is.
    workers = cores()
    pending: deque[tuple[Future[int], int]] = deque()
    held = count = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            while part := _part(encoded):
                weight = sum(len(data) for _, _, data in part)
                while pending and (len(pending) > 4 * workers or held + weight > _BYTES_IN_FLIGHT):
                    done, freed = pending.popleft()
                    bar.update(done.result())
                    held -= freed
                count += len(part)
                pending.append((pool.submit(_decode_part, part, images, size), weight))
                held += weight
            for done, _ in pending:
                bar.update(done.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return count


def _part(encoded: Iterator[Encoded]) -> list[Encoded]:
    """Take the next images for one task, fewer if they are large."""
    part: list[Encoded] = []
    weight = 0
    for entry in islice(encoded, _IMAGES_PER_TASK):
        part.append(entry)
        weight += len(entry[2])
        if weight > _BYTES_IN_FLIGHT // 16:
            break
    return part


def _decode_part(part: list[Encoded], images: UInt8[np.ndarray, "n c h w"], size: int | None) -> int:
    for entry in part:
        pixels = decode(entry, size)
        if pixels.shape != images.shape[1:]:
            shapes = f"images of one shape, {images.shape[1:]}, not {pixels.shape} as {entry[1]}"
            raise UserError("data.kwargs", {}, shapes, "Give a size, as in --data.kwargs '{\"size\": 64}'.")
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
            with _one_large if pixels > _LARGE else nullcontext():
                image = file.convert("RGB")
                if size is not None:
                    image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's readers raise many types for damaged bytes
        value = f"{name} ({len(data):,} bytes)"
        expected = f"an image that can be decoded, of at most {PIXELS:,} pixels"
        raise UserError("image", value, expected, f"Replace or remove it ({str(error)[:200]}).") from error
    return np.asarray(image).transpose(2, 0, 1)
