"""Warn when label smoothing does nothing, hurts, or meets labels that are soft already.

Each warning is one line, for stderr, TensorBoard and the artifact alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from distill.config import StudentConfig, TeacherConfig
from distill.metrics.confidence import confidence_gap, under_confident

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

# Cross-entropy with smoothed labels pulls the mean to the ceiling or below; if smoothing had no effect, the mean
# would go to 1. A fifth of that way is more than the sampling noise of a window: for ε = 0.1 it is 0.018, while the
# mean of 1,000 confidences with a standard deviation of 0.1 varies by 0.003.
_PAST = 0.2
"""Distance past its ceiling at which confidence is remarkable, as a share of the way from there to 1."""


class Notice(NamedTuple):
    """Tell a user one thing about a run."""

    kind: Literal["mixed labels", "no effect", "under-confident", "other size"]
    text: str
    """One line that says what is wrong, with its numbers, and what to do."""


def has_ceiling(config: TeacherConfig | StudentConfig) -> bool:
    """Tell whether targets depend on label and step alone, so that they set a ceiling on a network's confidence.

    Targets are not known with soft targets, mixed views, a smoothing of each sample, a confidence penalty or
    maximum suppression; and class weights scale them.
    """
    loss = config.loss
    suppressed = loss.smoothing_convention == "maxsup" and loss.smoothing > 0
    of_the_network = loss.labels.by_sample != "none" or loss.labels.confidence_penalty > 0
    return loss.alpha == 0 and not (config.shown.mixes or suppressed or of_the_network or loss.class_weights)


def mixed_labels(config: TeacherConfig | StudentConfig, classes: int) -> Notice | None:
    """Warn if labels are smoothed on top of mixup or cutmix, unless the config says that both are meant."""
    views, loss, most = config.shown, config.loss, config.loss.strongest
    if not views.mixes or not most or loss.smoothing_convention == "maxsup" or loss.labels.on_mixed:
        return None
    mass = most if loss.smoothing_convention == "others" else most * (classes - 1) / classes
    other = mass / (classes - 1)
    whole, even = 1 - mass, (1 - mass + other) / 2
    mixing = " and ".join(
        f"{name} {value:g}" for name, value in (("mixup", views.mixup), ("cutmix", views.cutmix)) if value
    )
    return Notice(
        "mixed labels",
        f"label smoothing {most:g} on top of {mixing}, whose labels are soft already: the largest share of a "
        f"target falls from 1 to {whole:.3g} where a view is of one class, from 0.5 to {even:.3g} where it is half "
        f"of each of two. Drop one of them, or say that both are meant: set `loss.labels.on_mixed=true`.",
    )


def no_effect(points: Sequence[Mapping[str, float]]) -> Notice | None:
    """Warn if confidence on training data is past its ceiling at both of the last two logged points.

    One point alone may be chance. `points` are rows of `metrics.jsonl`; a row without a ceiling does not count.
    """
    last = [point for point in points if "train/confidence_ceiling" in point][-2:]
    if len(last) < 2 or not all(map(_past, last)):
        return None
    confidence, ceiling = last[-1]["train/confidence"], last[-1]["train/confidence_ceiling"]
    return Notice(
        "no effect",
        f"smoothing seems to have no effect: mean confidence on training data is {confidence:.3g} at step "
        f"{last[-1]['step']:g}, a network that gave its targets would have {ceiling:.3g}. Lower the learning rate "
        "or train longer; a network of your own must return logits.",
    )


def under_confidence(
    config: TeacherConfig | StudentConfig, logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], name: str
) -> Notice | None:
    """Warn if a network is right on held-out data more often than it says, beyond chance.

    `distill calibrate` finds the network by `name`. Smoothing is named as a reason if it was used.
    """
    if not len(labels) or config.data.label_noise:  # wrong labels do not tell how often the network is right
        return None
    gap = confidence_gap(logits, labels)
    if not under_confident(gap):
        return None
    most = config.loss.strongest
    reason = f"Smoothing {most:g} is a reason: lower it, or scale" if most else "Scale"
    return Notice(
        "under-confident",
        f"under-confident on held-out data: accuracy {gap.accuracy:.3f} is above mean confidence "
        f"{gap.confidence:.3f}, by {gap.gap:.3f} (95 % interval {gap.low:.3f} to {gap.high:.3f}). {reason} the "
        f"logits: distill calibrate {name}",
    )


def _past(point: Mapping[str, float]) -> bool:
    ceiling = point["train/confidence_ceiling"]
    return point["train/confidence"] > ceiling + _PAST * (1 - ceiling)
