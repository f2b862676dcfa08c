"""Draw random bits from a counter-based hash: a pure function of (stream, seed, counter, index)."""

from __future__ import annotations

from enum import IntEnum

from jaxtyping import Int64
from torch import Tensor


class Stream(IntEnum):
    """Name the purpose of random bits; equal seeds give unrelated bits for different purposes."""

    VIEW = 1
    ORDER = 2
    SPLIT = 3
    PROGRAM = 4
    PARTNER = 5
    MIX = 6
    PROOF = 7
    NOISE = 8
    BALANCE = 9
    SCALE = 10


_WORD = (1 << 64) - 1
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(word: int) -> int:
    """Return the int64 that has the bits of a 64-bit word."""
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)


def shift_right(bits: Int64[Tensor, "*shape"], places: int) -> Int64[Tensor, "*shape"]:
    """Shift bits to the right and fill with zeros; torch's own shift of an int64 copies the sign bit."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def splitmix64(counter: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """Return the output of SplitMix64 at each counter; int64 arithmetic wraps, so all devices agree.

    Source: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
    """
    bits = counter + _signed(_GAMMA)
    bits = (bits ^ shift_right(bits, 30)) * _signed(_FIRST)
    bits = (bits ^ shift_right(bits, 27)) * _signed(_SECOND)
    return bits ^ shift_right(bits, 31)


def splitmix64_word(counter: int) -> int:
    """Return `splitmix64` of one number as an int64, without the cost of a tiny tensor."""
    bits = (counter + _GAMMA) & _WORD
    bits = ((bits ^ (bits >> 30)) * _FIRST) & _WORD
    bits = ((bits ^ (bits >> 27)) * _SECOND) & _WORD
    return _signed(bits ^ (bits >> 31))


def counter_hash(
    stream: Stream, seed: int, counter: int | Int64[Tensor, "b"], index: Int64[Tensor, "b"]
) -> Int64[Tensor, "b"]:
    """Return 64 random bits per index, which do not depend on batch, order, worker or device.

    The counter is a view number or an epoch: one for all indices, or one for each.
    """
    origin = splitmix64_word(splitmix64_word(seed) + int(stream))
    if isinstance(counter, int):
        return splitmix64(index + splitmix64_word(origin + counter))
    return splitmix64(index + splitmix64(counter.to(index.device) + origin))
