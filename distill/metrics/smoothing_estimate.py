"""Estimate from logits alone with which label smoothing ε a network was trained, or say that they cannot tell.

A network that fits labels smoothed by ε gives each image the same gap between its answer and an average wrong
class, log((1-ε)K/ε + 1). On held-out images gaps scatter around it: they pile up there, and the width of the pile
says how far an estimate may be off. The constants of the interval, and of what cannot be told, were fitted on
networks whose ε is known (`experiments/known_smoothing.py`); they stand in `known_smoothing.json`.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxtyping import Float64
from torch import Tensor

from distill.errors import UserError
from distill.metrics.arrays import Labels, Logits
from distill.metrics.dark_knowledge import nontarget

LEAST_IMAGES = 100
"""Least number of rightly classified images that an estimate needs."""
Verdict = Literal["smoothed", "smoothed or mixed", "not smoothed", "unknown"]


class Constants(NamedTuple):
    """Hold what was fitted on networks of known smoothing."""

    shift: float
    """Distance of the true gap from the middle of the pile, in widths of the pile."""
    reach: float
    """Half of the 95 % interval of the gap, in widths of the pile."""
    widest: float
    """Largest width of the pile, as a share of the gap, from which smoothing is told."""
    unevenest: float
    """Largest standard deviation over the wrong classes, as a share of the gap, from which smoothing is told."""
    mixed_above: float
    """Unevenness above which mixed labels explain the logits as well as smoothed labels do."""
    least: float
    """Smoothing below which a network counts as not smoothed."""


class Pile(NamedTuple):
    """Describe where the gaps of rightly classified images pile up."""

    middle: float
    """Median of the shortest interval that holds half of the gaps."""
    width: float
    """Length of that interval."""
    unevenness: float
    """Standard deviation over the wrong logits of the surer half of the images, as a share of their gap."""
    images: int


@dataclass(frozen=True)
class SmoothingEstimate:
    """Say with which smoothing a network was trained, in the uniform convention, and what that rests on."""

    verdict: Verdict
    smoothing: float | None
    """The estimate of ε; None where it is unknown."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    reason: str
    """Reason for the verdict, with its numbers."""
    pile: Pile


def estimate_smoothing(logits: Logits, labels: Labels, constants: Constants | None = None) -> SmoothingEstimate:
    """Estimate the smoothing ε of a network from its logits of images that it was not trained on.

    Raises:
        UserError: fewer than `LEAST_IMAGES` images are classified rightly.
    """
    fitted = constants or Constants(**facts()["constants"])
    pile, classes = pile_of(logits, labels), logits.shape[1]
    centre = pile.middle + fitted.shift * pile.width
    # The sampling error of the median of n/2 values whose middle half is the pile, beside what was fitted.
    half = pile.width * math.hypot(fitted.reach, 2.6 / math.sqrt(pile.images))
    low, middle, high = (smoothing_of(gap, classes) for gap in (centre + half, centre, centre - half))
    spread = pile.width / pile.middle if pile.middle > 0 else math.inf
    told = f"the gaps of {pile.images:,} right answers pile up at {pile.middle:.2f}, {pile.width:.2f} wide"
    if high < fitted.least:
        return SmoothingEstimate("not smoothed", 0.0, 0.0, high, f"{told}: no ε of {fitted.least:g} or more", pile)
    reason = ""
    if spread > fitted.widest:
        reason = f"{told}: {spread:.2f} of the gap, where smoothing is told up to {fitted.widest:.2f}"
    elif pile.unevenness > fitted.unevenest:
        reason = f"wrong logits differ by {pile.unevenness:.2f} of the gap, more than {fitted.unevenest:.2f}"
    if reason:
        return SmoothingEstimate("unknown", None, None, None, reason, pile)
    mixed = classes == 2 or pile.unevenness > fitted.mixed_above  # one wrong class has no shape
    return SmoothingEstimate("smoothed or mixed" if mixed else "smoothed", middle, low, high, told, pile)


def pile_of(logits: Logits, labels: Labels) -> Pile:
    """Find where the gaps between the answer and an average wrong class pile up.

    Raises:
        UserError: too few images are classified rightly.
    """
    right = logits.argmax(dim=1) == labels
    if (count := int(right.sum())) < LEAST_IMAGES:
        expected = f"{LEAST_IMAGES} or more right answers, from which smoothing can be estimated"
        raise UserError("data", f"{count} right answers of {len(labels)}", expected, "Give more images.")
    seen, answers = logits[right], labels[right]
    gaps = gaps_of(seen, answers)
    ordered, half = gaps.sort().values, count // 2
    widths = ordered[half:] - ordered[: count - half]
    start = int(widths.argmin())
    sure = gaps >= gaps.median()
    wrong = nontarget(seen[sure].double(), answers[sure])
    above = seen[sure].double().gather(1, answers[sure].unsqueeze(1)).squeeze(1) - wrong.mean(dim=1)
    uneven = (wrong.std(dim=1, correction=0).mean() / above.mean()).item()
    return Pile(ordered[start : start + half + 1].median().item(), widths[start].item(), uneven, count)


def gaps_of(logits: Logits, labels: Labels) -> Float64[Tensor, " n"]:
    """Return the log-odds of the label against an average wrong class: log p_y - log((1 - p_y)/(K-1))."""
    z = logits.double()
    others = nontarget(z, labels)
    return z.gather(1, labels.unsqueeze(1)).squeeze(1) - others.logsumexp(dim=1) + math.log(others.shape[1])


def smoothing_of(gap: float, classes: int) -> float:
    """Return the uniform smoothing whose optimal gap is this one; the inverse of `optimal_gap`."""
    return min(1.0, classes / (math.expm1(min(gap, 700.0)) + classes)) if gap > 0 else 1.0


@functools.cache
def facts() -> dict[str, Any]:
    """Read what was fitted on networks of known smoothing, how it did on others, and what recorded results say."""
    return json.loads(Path(__file__).with_name("known_smoothing.json").read_text(encoding="utf-8"))
