"""Mix views by mixup and cutmix, as pure functions of (seed, sample index, view number).

Partner, share and box come from a counter-based hash. The share λ of a sample's own pixels is a multiple of 1/256,
so a mixup of two uint8 images is exact in float32, whatever the device. The partner of a sample shows its own view
of the same number. Sources: Zhang et al. (2018), "mixup", with λ for each sample and not for each batch; Yun et al.
(2019), "CutMix", section 3.1. Mixup with Beta(1, 1) is the "function matching" of Beyer et al. (2022).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from distill.config import AugmentConfig
from distill.data.hashing import Stream, counter_hash, shift_right, splitmix64

STEPS = 256
"""Number of steps between λ = 0 and λ = 1; λ is w / STEPS, with w from 0 to STEPS."""
_BITS = 32


class MixParameters(NamedTuple):
    """Say how each view is mixed with the view of another sample."""

    partner: Int64[Tensor, "b"]
    """Index within the split of the other sample; by chance it may be the sample itself."""
    weight: Float32[Tensor, "b"]
    """Share of the own label: w / 256 of a mixup, the exact area that a cutmix leaves."""
    w: Int64[Tensor, "b"] | None
    """Own share of each pixel x 256; 256 for a cutmix. None when no view is a mixup."""
    box: Int64[Tensor, "b 4"] | None
    """Top, left, bottom and right of the box that the partner covers, the last two excluded.

    The box is empty for a mixup, and None when no view is a cutmix.
    """


def mix_parameters(
    seed: int,
    index: Int64[Tensor, "b"],
    view: int | Int64[Tensor, "b"],
    augment: AugmentConfig,
    n: int,
    height: int,
    width: int,
) -> MixParameters:
    """Return the parameters of the given view of each sample of a split of n, on the device of `index`.

    Raises:
        ValueError: neither mixup nor cutmix is on.
    """
    if not augment.mixes:
        raise ValueError("augment has neither mixup nor cutmix")
    partner = shift_right(counter_hash(Stream.PARTNER, seed, view, index), 1) % max(n, 1)
    bits = counter_hash(Stream.MIX, seed, view, index)
    uniform = shift_right(bits, 64 - _BITS)
    if not augment.cutmix:
        w = _quantile(uniform, augment.mixup)
        return MixParameters(partner, w.float() / STEPS, w, None)
    w = _quantile(uniform, augment.cutmix)
    if not augment.mixup:
        box, weight = _box(bits, w, height, width)
        return MixParameters(partner, weight, None, box)
    cut = (bits & 1).bool()
    box, weight = _box(bits, w.where(cut, STEPS), height, width)
    w = _quantile(uniform, augment.mixup).where(~cut, STEPS)
    return MixParameters(partner, weight.where(cut, w.float() / STEPS), w, box)


def mix(
    own: UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"],
    other: UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"],
    parameters: MixParameters,
) -> Float32[Tensor, "b c h w"]:
    """Mix the pixels of each view with those of its partner, in the units of the given pixels (0..255).

    Each product and the sum are rounded on their own (and exact for uint8), so all devices agree to the bit.
    """
    mixed = own.float()
    if parameters.w is not None:
        share = (parameters.w.float() / STEPS).view(-1, 1, 1, 1)
        mixed = (mixed * share).add_(other.float() * (1 - share))
    if parameters.box is not None:
        height, width = own.shape[-2:]
        top, left, bottom, right = parameters.box.unbind(1)
        rows = _inside(top, bottom, height)
        columns = _inside(left, right, width)
        mixed = torch.where((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), other.float(), mixed)
    return mixed


def mix_labels(
    labels: Int64[Tensor, "b"], others: Int64[Tensor, "b"], weight: Float32[Tensor, "b"], num_classes: int
) -> Float32[Tensor, "b k"]:
    """Return the share of each class: `weight` for the own label, the rest for the partner's label.

    Two equal labels share one class, and their shares are added.
    """
    shares = torch.zeros(len(labels), num_classes, device=labels.device)
    shares.scatter_(1, labels.unsqueeze(1), weight.unsqueeze(1))
    own = shares.gather(1, others.unsqueeze(1))
    return shares.scatter_(1, others.unsqueeze(1), own + (1 - weight).unsqueeze(1))


def thresholds(a: float) -> Int64[np.ndarray, "256"]:
    """Return the 256 thresholds by which a uniform number u becomes λ ~ Beta(a, a): λ is 1 / 256 times the number
    of thresholds that u reaches.

    Thresholds are in units of 2⁻³², so that the table is equal wherever the incomplete beta function is good to ten
    digits.
    """
    from scipy.special import betainc  # imported here, since it takes longer to load than this whole package

    middles = (np.arange(STEPS) + 0.5) / STEPS
    return np.rint(betainc(a, a, middles) * 2.0**_BITS).astype(np.int64)


def _quantile(uniform: Int64[Tensor, "b"], a: float) -> Int64[Tensor, "b"]:
    return torch.searchsorted(_thresholds(a, uniform.device), uniform, right=True)


def _box(
    bits: Int64[Tensor, "b"], w: Int64[Tensor, "b"], height: int, width: int
) -> tuple[Int64[Tensor, "b 4"], Float32[Tensor, "b"]]:
    """Return a cutmix box around a uniform centre, clipped at the image's border, and the share of the image
    outside it; before clipping, this share is about w / 256.
    """
    centre = splitmix64(bits)
    edges = []
    for side, word in ((height, shift_right(centre, _BITS)), (width, centre & ((1 << _BITS) - 1))):
        middle, half = (word * side) >> _BITS, _sides(side, w.device)[w] // 2
        edges.append(((middle - half).clamp_(min=0), (middle + half).clamp_(max=side)))
    (top, bottom), (left, right) = edges
    area = (bottom - top) * (right - left)
    # The divisor is a tensor, since a GPU would multiply by the reciprocal of a number.
    whole = torch.full_like(area, height * width).float()
    return torch.stack([top, left, bottom, right], 1), (whole - area) / whole


def _inside(first: Int64[Tensor, "b"], end: Int64[Tensor, "b"], side: int) -> Tensor:
    position = torch.arange(side, device=first.device)
    return (position >= first[:, None]) & (position < end[:, None])


@lru_cache(maxsize=16)
def _thresholds(a: float, device: torch.device) -> Int64[Tensor, "256"]:
    return torch.from_numpy(thresholds(a)).to(device)


@lru_cache(maxsize=16)
def _sides(side: int, device: torch.device) -> Int64[Tensor, "257"]:
    """Return floor(side x sqrt(1 - w / 256)) for w = 0 to 256: the side of a cutmix box outside of which the share
    w / 256 of the image lies.
    """
    # Computed once by numpy in float64, since a device may round a square root in another way.
    sides = np.floor(side * np.sqrt(1 - np.arange(STEPS + 1) / STEPS)).astype(np.int64)
    return torch.from_numpy(sides).to(device)
