"""Read the arguments of an image folder, `data.kwargs`, and refuse those that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from distill.config import DataConfig
from distill.data.sets.decoding import Reading
from distill.data.sets.fitting import INTERPOLATIONS, Fit
from distill.errors import UserError

_SIZE = 4096
"""Largest side in pixels to which images are resized; one image has then 50 MB."""
_SEEDS = 2**63


class FolderArguments(NamedTuple):
    """Say how the images of a folder are decoded, and which of them are test images."""

    size: int | None = None
    """Side in pixels to which images are resized and cropped; None keeps their size."""
    crop: float = 1.0
    """Share of the resized shorter side that is kept."""
    interpolation: str = "bilinear"
    """Filter with which images are resized."""
    exif: bool = False
    """Whether the EXIF orientation of photographs is applied."""
    test: float | None = None
    """Share of each class that becomes the test set, where the folder has no splits; None where it has them."""
    seed: int = 0
    """Seed of this share."""
    stream: bool = False
    """Whether images are decoded when a batch needs them, and not all at once into a copy on disk."""
    draft: int | None = None
    """Least side in pixels to which a streamed JPEG may be shrunk while it is decoded; None decodes all."""
    broken: str = "refuse"
    """What happens to a streamed image that cannot be decoded: it is refused, or left out ("skip")."""
    image: str | None = None
    """Column of the images in a data set of Hugging Face; None finds it."""
    label: str | None = None
    """Column of the labels in a data set of Hugging Face; None finds it."""

    @property
    def reading(self) -> Reading:
        """Return how the bytes of a file become pixels."""
        return Reading(Fit(self.size, self.crop, self.interpolation), self.exif, self.draft)


def _side(value: Any) -> bool:
    return type(value) is int and 0 < value <= _SIZE


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < _SEEDS


def _is_text(value: Any) -> bool:
    return type(value) is str and bool(value)


_PIXELS = f"1 to {_SIZE:,} pixels"
_CHECKS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "size": (_side, _PIXELS, '{"size": 64}'),
    "crop": (lambda v: type(v) in (int, float) and 0 < v <= 1, "a share above 0, at most 1", '{"crop": 0.875}'),
    "interpolation": (INTERPOLATIONS.__contains__, f"one of {', '.join(INTERPOLATIONS)}", '{"size": 64}'),
    "exif": (lambda v: type(v) is bool, "true or false", '{"exif": true}'),
    "test": (lambda v: type(v) is float and 0 < v < 1, "a share above 0 and below 1", '{"test": 0.2}'),
    "seed": (_is_seed, f"a whole number from 0 to {_SEEDS - 1}", '{"test": 0.2, "seed": 1}'),
    "stream": (lambda v: type(v) is bool, "true or false", '{"stream": true}'),
    "draft": (_side, _PIXELS, '{"stream": true, "draft": 448}'),
    "broken": (("refuse", "skip").__contains__, "refuse or skip", '{"stream": true, "broken": "skip"}'),
    "image": (_is_text, "the name of a column", '{"image": "img"}'),
    "label": (_is_text, "the name of a column", '{"label": "fine_label"}'),
}
"""Argument → check, what is expected, and an example."""
_BESIDE = {
    "seed": ("test", "a share of test images"),
    "crop": ("size", "a size"),
    "interpolation": ("size", "a size"),
    "draft": ("stream", "stream=true"),
    "broken": ("stream", "stream=true"),
}
"""Argument → the argument without which it means nothing, in a name and in words."""


def folder_arguments(config: DataConfig) -> FolderArguments:
    """Return the arguments of an image folder, of tar shards or of a data set of Hugging Face.

    Raises:
        UserError: an argument is unknown, of another type or out of range, or means nothing without another one.
    """
    kwargs, streams = config.kwargs, config.kind != "imagefolder"
    known = [name for name in _CHECKS if config.kind == "hfdataset" or name not in ("image", "label")]
    if unknown := {name: kwargs[name] for name in kwargs if name not in known}:
        raise _refused(unknown, f"only {', '.join(known)}")
    for name, value in kwargs.items():
        fits, expected, example = _CHECKS[name]
        if not (isinstance(value, str | int | float | None) and fits(value)):
            raise _refused({name: value}, expected, example)
    given = FolderArguments(**kwargs)
    if streams and "stream" not in kwargs:
        given = given._replace(stream=True)
    if streams and not given.stream:
        raise _refused({"stream": False}, f"true for {config.kind}, which has no decoded copy", '{"size": 64}')
    for name, (other, words) in _BESIDE.items():
        if name in kwargs and not getattr(given, other):
            raise _refused({name: kwargs[name]}, f"{words} beside it", _CHECKS[name][2])
    return given


def _refused(value: dict[str, Any], expected: str, example: str = '{"size": 64}') -> UserError:
    return UserError("data.kwargs", value, expected, f"Set `data.kwargs={example}`, or drop it.")
