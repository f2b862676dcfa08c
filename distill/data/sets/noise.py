"""Wrong labels at random, as a pure function of (seed, counter, sample)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from distill.data.hashing import Stream, counter_hash, shift_right

_BITS = 32


def noisy_labels(
    labels: Int64[Tensor, " n"],
    index: Int64[Tensor, " n"],
    rate: float,
    kind: Literal["symmetric", "pair"],
    num_classes: int,
    seed: int,
    counter: int = 0,
) -> Int64[Tensor, " n"]:
    """Labels of which each was replaced, with probability `rate`, by that of another class.

    "symmetric": any other class, all alike (Patrini et al. 2017; Han et al. 2018, "Co-teaching"); "pair": the next
    class, the last one's being the first (Han et al. 2018). With two classes both are the same. A replaced label is
    always wrong, as in both papers. Where it is drawn among all K classes, the right one included (Lukasik et al.
    2020), a rate ρ makes only ρ (K - 1) / K of the labels wrong, which is the rate to give here.

    A lower rate replaces a part of what a higher one replaces, and by the same classes.

    Args:
        labels: the right ones.
        index: of each sample, by which its chance is drawn.
        rate: probability, 0 to 1.
        kind: what replaces a label.
        num_classes: K, 2 or more.
        seed: of the noise.
        counter: tells apart splits whose indices overlap.
    """
    bits = counter_hash(Stream.NOISE, seed, counter, index)
    replaced = shift_right(bits, 64 - _BITS) < round(rate * (1 << _BITS))
    low = bits & ((1 << _BITS) - 1)
    step = 1 + ((low * (num_classes - 1)) >> _BITS) if kind == "symmetric" else torch.ones_like(labels)
    return torch.where(replaced, (labels + step) % num_classes, labels)
