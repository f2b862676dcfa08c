"""Call a user's function that returns a data set, and check what it returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distill.config import IGNORED, DataConfig
from distill.data.sets.dataset import Split, Splits
from distill.errors import UserError, is_utf8
from distill.system.plugins import bind, resolve, told


def call_plugin(config: DataConfig) -> Splits:
    """Call the function that a config names, and check the data set that it returns."""
    call = bind(resolve(config.name, "data.name", config.content), "data.kwargs", **config.kwargs)
    try:
        returned = call()
    except UserError:
        raise
    except Exception as error:
        expected = "a function that returns images, labels and class names"
        raise UserError("data.name", config.name, expected, f"It failed: {told(error)}.") from error
    form = "(train_images, train_labels, test_images, test_labels, class_names)"
    if not isinstance(returned, tuple | list) or len(returned) != 5:
        what = f"{len(returned)} values" if isinstance(returned, tuple | list) else _describe(returned)
        raise UserError("data.name", config.name, f"a function returning {form}", f"It returned {what}.")
    if not isinstance(returned[4], tuple | list) or not returned[4]:
        way_out = f"The function returned {_describe(returned[4])}."
        raise UserError("data.name", config.name, "class_names as a tuple of names", way_out)
    classes = tuple(str(name) for name in returned[4])
    if not all(map(is_utf8, classes)):  # a record could not be read again after the training
        raise UserError("data.name", config.name, "class names in UTF-8", f"The function returned {classes}.")
    train = _checked(config.name, "train", returned[0], returned[1], len(classes))
    test = _checked(config.name, "test", returned[2], returned[3], len(classes))
    for what in ("images", "labels"):
        shapes = [list(getattr(split, what).shape) for split in (train, test)]
        if shapes[0][1:] != shapes[1][1:]:
            way_out = f"They are train {shapes[0]}, test {shapes[1]}."
            raise UserError("data.name", config.name, f"train and test {what} of one shape", way_out)
    return train, test, classes


def _checked(name: str, part: str, images: Any, labels: Any, num_classes: int) -> Split:
    def refuse(what: str, expected: str, returned: object) -> UserError:
        return UserError("data.name", name, f"{part}_{what} as {expected}", f"The function returned {returned}.")

    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise refuse("images", "a uint8 tensor [n, channels, height, width], n > 0", _describe(images))
    is_integer = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.dtype == torch.bool)
    if not is_integer or labels.ndim not in (1, 2) or len(labels) != len(images) or not labels.numel():
        expected = f"an integer tensor [{len(images)}], or [{len(images)}, positions]"
        raise refuse("labels", expected, _describe(labels))
    counted = labels
    if labels.ndim == 2:
        counts = labels != IGNORED
        if not bool(counts.any(1).all()):
            expected = f"a label in each row that is not {IGNORED}"
            raise refuse("labels", expected, f"only {IGNORED} in row {int(counts.any(1).int().argmin())}")
        counted = labels[counts]
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= num_classes:
        expected = f"numbers 0 to {num_classes - 1}, for {num_classes} class names"
        expected += f", or {IGNORED}" if labels.ndim == 2 else ""
        raise refuse("labels", expected, f"{low} to {high}")
    return Split(images.cpu().contiguous(), labels.cpu().long())


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a {type(value).__name__}"
