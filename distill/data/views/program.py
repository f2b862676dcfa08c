"""Render views by a program, any transform of one PIL image (torchvision's, timm's), as a pure function.

Before each call the generators of torch, random and numpy are seeded from (seed, view, sample index), and they are
restored when the batch is done. So no pixel of a view depends on batch, order or number of worker processes.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from distill.config import AugmentConfig
from distill.data.hashing import Stream, counter_hash, splitmix64_word
from distill.data.sets.dataset import Images
from distill.data.sets.streams.images import StreamedImages
from distill.data.views.ahead import Ahead
from distill.data.views.workers import Start
from distill.errors import UserError
from distill.system import trust
from distill.system.plugins import HARMLESS, bind, resolve

_FIELD = "augment.program"
_CHECKED_SAMPLES, _CHECKED_VIEWS = 4, 2
_NUMBER, _ENLARGEMENT = 300, 16
"""Largest number, unless images are larger, and largest factor in arguments of a program that needs no trust."""
_WORD, _HALF = (1 << 64) - 1, (1 << 32) - 1


class ProgramViews(Ahead):
    """Render the views that a program makes of images, in this process or in worker processes.

    Args:
        images: images of the split; workers share their memory.
        augment: config that names the program.
        seed: seed of the views.
        start: way to start workers; None forks on Linux (workers are ready at once) and spawns elsewhere.

    Raises:
        UserError: the program cannot be made, fails, gives other shapes or values than it should, or draws from
            something else than the seeded generators.
    """

    def __init__(self, images: Images, augment: AugmentConfig, seed: int, start: Start | None = None):
        channels = images.shape[1]
        if channels not in (1, 3):
            way_out = "Drop `augment.program`, or choose other data."
            raise UserError(_FIELD, augment.program, f"images of 1 or 3 channels, these have {channels}", way_out)
        if augment.program in HARMLESS:
            _refuse_large(augment.kwargs, max(images.shape[2:]))
        source = _Source(images, augment, seed)
        _check(source, images, augment, seed)
        super().__init__(source, start)


class _Source:
    """Render views by an image transform that is never pickled: each worker process builds it from the config."""

    def __init__(self, images: Images, augment: AugmentConfig, seed: int):
        self._images, self._augment, self._seed = images, augment, seed
        self.shape: tuple[int, ...] = tuple(images.shape[1:])
        self._program = _make(augment, seed)
        self.dtype: torch.dtype | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_program": None, "_trusted": trust.current}

    def __setstate__(self, state: dict[str, Any]) -> None:
        trust.add(state.pop("_trusted"))
        vars(self).update(state)
        self._program = _make(self._augment, self._seed)

    def pixels(self, index: Int64[np.ndarray, "b"], view: int) -> Tensor:
        if not len(index):
            return torch.empty((0, *self.shape), dtype=self.dtype or torch.uint8)
        words = counter_hash(Stream.PROGRAM, self._seed, view, torch.from_numpy(index)).tolist()
        views = []
        with _seeding() as seed:
            for sample, word in zip(index.tolist(), words, strict=True):
                image = _original(self._images, sample)
                seed(word)
                try:
                    returned = self._program(image)
                except Exception as error:
                    where = f"a transform of one image (it failed on sample {sample}, view {view})"
                    raise self._refused(where, _first_line(error)) from error
                pixels = self._to_pixels(returned)
                # Every batch has one dtype, whatever its samples are: the dtype of the first view ever made.
                self.dtype = self.dtype or pixels.dtype
                if pixels.dtype != self.dtype:
                    raise self._refused("views of one dtype", f"It gave {pixels.dtype} and {self.dtype}.")
                views.append(pixels)
        return torch.stack(views)

    def _to_pixels(self, view: Any) -> Tensor:
        """Convert what a program returned to uint8, or to float32 in 0..255, [c, h, w]."""
        shape = self.shape
        if isinstance(view, Image.Image | np.ndarray):
            array = np.asarray(view)
            is_last = array.shape != shape and array.shape == (*shape[1:], shape[0])
            if array.ndim == 2:
                array = array[None]
            elif array.ndim == 3 and (isinstance(view, Image.Image) or is_last):  # its channels are last
                array = array.transpose(2, 0, 1)
            if array.dtype not in (np.uint8, np.float16, np.float32, np.float64):
                raise self._refused("uint8, or floats in 0..1", f"It gave {array.dtype}.")
            view = torch.from_numpy(np.array(array, order="C"))  # a copy, since torch refuses negative strides
        if not isinstance(view, Tensor):
            expected = "a program that returns a PIL image, a tensor or an array"
            raise self._refused(expected, f"It gave {type(view).__name__}.")
        view = view.detach().as_subclass(Tensor)
        if tuple(view.shape) != shape:
            way_out = f"It gave {tuple(view.shape)}: set its size or the size of the data."
            raise self._refused(f"views of the images' shape {shape} (channels, height, width)", way_out)
        if view.dtype == torch.uint8:
            return view
        if not view.is_floating_point():
            raise self._refused("uint8, or floats in 0..1", f"It gave {view.dtype}.")
        view = view.float()
        if not bool(((view >= 0) & (view <= 1)).all()):  # NaN is outside too
            raise self._refused(
                "floats in 0..1, since each network normalises by its own mean and std",
                f"It gave {view.min().item():.3g} to {view.max().item():.3g}: leave out its normalisation"
                ' (timm: "normalize": false).',
            )
        return view * 255

    def _refused(self, expected: str, way_out: str) -> UserError:
        return UserError(_FIELD, self._augment.program, expected, way_out)


def _make(augment: AugmentConfig, seed: int) -> Callable[[Any], Any]:
    """Make the view program that a config names."""
    assert augment.program is not None
    build = bind(resolve(augment.program, _FIELD, augment.content), "augment.kwargs", **augment.kwargs)
    # A factory may draw what its transform keeps, so it runs under seeded generators too.
    with _seeding() as seed_with:
        seed_with(splitmix64_word(seed))
        try:
            program = build()
        except Exception as error:
            way_out = f"{_first_line(error)}. Its arguments are set by `augment.kwargs`."
            raise UserError(_FIELD, augment.program, "a function that makes a transform", way_out) from error
    if not callable(program):
        way_out = f"It returned {type(program).__name__}."
        raise UserError(_FIELD, augment.program, "a function that returns a transform of one image", way_out)
    return program


def _refuse_large(kwargs: dict[str, Any], side: int) -> None:
    """Refuse arguments that would fill the memory, or last for ever, for a view no larger than its image.

    Raises:
        UserError: a number, also one within a text, is too large.
    """
    numbers = map(float, re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", json.dumps(kwargs)))
    scale, share = kwargs.get("scale"), kwargs.get("crop_pct")
    factors = [each for each in (scale if isinstance(scale, list) else [scale]) if isinstance(each, int | float)]
    factors += [1 / max(share, 1e-9)] if isinstance(share, int | float) else []
    limit = max(side, _NUMBER)
    if max(numbers, default=0) > limit or max(factors, default=0) > _ENLARGEMENT:
        expected = f"no number above {limit}, and no enlargement above {_ENLARGEMENT} times"
        raise UserError("augment.kwargs", kwargs, expected, "Views have the size of the images: set that size.")


def _check(source: _Source, images: Images, augment: AugmentConfig, seed: int) -> None:
    """Refuse a view program whose pixels change with the order of calls, other generators or a fresh instance.

    A few views are rendered again, in another order, under other generators and by a second copy of the program.

    Raises:
        UserError: pixels differ, or cannot be made.
    """
    samples = np.unique(np.linspace(0, max(len(images) - 1, 0), _CHECKED_SAMPLES).astype(np.int64))[: len(images)]
    views = range(_CHECKED_VIEWS)
    first = [source.pixels(samples, view) for view in views]
    with _seeding() as disturb:
        for copy in (source, _Source(images, augment, seed)):
            disturb(1)
            for view in reversed(views):
                again = copy.pixels(samples[::-1].copy(), view).flip(0)
                for sample, one, other in zip(samples.tolist(), first[view], again, strict=True):
                    if not torch.equal(one, other):
                        raise UserError(
                            _FIELD,
                            augment.program,
                            "a pure function of the seeded generators (torch, random, numpy.random)",
                            f"It gave sample {sample}, view {view} other pixels when asked again: let it draw from"
                            " these generators alone, and keep no state.",
                        )


@contextmanager
def _seeding() -> Iterator[Callable[[int], None]]:
    """Yield a function that seeds every generator of this process; after the block the generators are restored.

    Torch works on one thread in the block, as it does in a worker.
    """
    # This is numpy's old generator, since transforms draw from it. torch.manual_seed is not used, since it would
    # reset a GPU's generator too, which a training run may be using.
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def seed(word: int) -> None:
        torch.default_generator.manual_seed(word)
        random.seed(word & _WORD)
        np.random.seed([word & _HALF, (word >> 32) & _HALF])  # noqa: NPY002

    try:
        yield seed
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])  # noqa: NPY002


def _original(images: Images, sample: int) -> Image.Image:
    """Return an image in its own size."""
    if isinstance(images, StreamedImages):
        return images.original(sample)
    # The array is copied, so that no program can write into the data.
    array = images[sample].numpy()
    return Image.fromarray(np.array(array[0] if len(array) == 1 else array.transpose(1, 2, 0), order="C"))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
