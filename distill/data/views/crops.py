"""Shift and flip images, as a pure function of (seed, sample index, view number).

`program` makes views by any other transform, and `mixing` mixes the views of two samples.

No function here has state. So a teacher that writes logits for view v of sample i and a student that reads these
logits see equal pixels, whatever the batch size, order, number of workers, process or device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from distill.config import AugmentConfig
from distill.data.hashing import Stream, counter_hash, shift_right

_FIELD = 21
_SERIAL = 1 << 14
"""Largest number of elements that torch works on in one thread.

Torch divides more elements, and sorting, among threads, which wait long for each other on a busy CPU.
"""


class ViewParameters(NamedTuple):
    """Say where each view's crop starts in the padded image, and whether the crop is then mirrored."""

    dy: Int64[Tensor, "b"]
    """Row of the start, 0 to 2 x pad; pad is the centre."""
    dx: Int64[Tensor, "b"]
    """Column of the start, 0 to 2 x pad; pad is the centre."""
    flip: Bool[Tensor, "b"]
    """Whether the crop is mirrored left to right."""


def view_parameters(
    seed: int, index: Int64[Tensor, "b"], view: int | Int64[Tensor, "b"], augment: AugmentConfig
) -> ViewParameters:
    """Return the parameters of the given view of each sample, on the device of `index`.

    Shifts are uniform over 0..2 x pad and flips are fair, up to 2⁻²¹; the bits of one hash serve all three.
    """
    if not augment.pad and not augment.flip:
        zeros = torch.zeros_like(index)
        return ViewParameters(zeros, zeros, zeros.bool())
    bits = counter_hash(Stream.VIEW, seed, view, index)
    field = (1 << _FIELD) - 1
    shifts = 2 * augment.pad + 1
    dy = (shift_right(bits, 64 - _FIELD) * shifts) >> _FIELD
    dx = ((shift_right(bits, 64 - 2 * _FIELD) & field) * shifts) >> _FIELD
    flip = (bits & 1).bool() if augment.flip else torch.zeros_like(index, dtype=torch.bool)
    return ViewParameters(dy, dx, flip)


def render(images: UInt8[Tensor, "b c h w"], parameters: ViewParameters, pad: int) -> UInt8[Tensor, "b c h w"]:
    """Render views: pad with zeros, crop at (dy, dx), mirror; the module `canvas` does the same faster on a CPU."""
    count, channels, height, width = images.shape
    device = images.device
    padded = F.pad(images, (pad, pad, pad, pad))
    across = torch.arange(width, device=device).expand(count, width)
    across = torch.where(parameters.flip[:, None], width - 1 - across, across)
    columns = parameters.dx[:, None] + across
    rows = parameters.dy[:, None] + torch.arange(height, device=device)
    sample = torch.arange(count, device=device)
    channel = torch.arange(channels, device=device)
    return padded[
        sample[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]


def permutation(seed: int, epoch: int, n: int, device: str | torch.device = "cpu") -> Int64[Tensor, "n"]:
    """Return the order of an epoch over n samples, as a pure function of the arguments, equal on every device."""
    if n == 0:
        return torch.arange(0, device=device)
    firsts = range(0, n, _SERIAL)
    parts = (torch.arange(first, min(n, first + _SERIAL), device=device) for first in firsts)
    keys = torch.cat([counter_hash(Stream.ORDER, seed, epoch, part) for part in parts])
    if keys.device.type == "cpu":
        return torch.from_numpy(keys.numpy().argsort(kind="stable"))
    return keys.argsort(stable=True)
