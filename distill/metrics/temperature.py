"""Find the temperature that calibrates a network, or that gives its answers an equivalent smoothing; and measure
what temperatures do (Guo et al. 2017, sec. 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import UnfitTeacher
from distill.metrics.arrays import Labels, Logits
from distill.metrics.calibration_error import error_of, reliability_of

SHARPEST = 100.0
"""Largest factor between a fitted temperature and the spread of the logits, in either direction."""


def by_temperature(
    logits: Logits, labels: Labels, temperatures: Sequence[float], bins: int = 15
) -> tuple[list[float], list[float]]:
    """Return the NLL in nats and the ECE of logits / T, for each temperature T."""
    # One exponential per logit and temperature is enough for both.
    of_label, below = _below_largest(logits, labels)
    right = logits.argmax(dim=1) == labels
    nlls, errors = [], []
    for temperature in temperatures:
        mass = (below / temperature).exp_().sum(dim=1)  # relative to the mass of the largest logit
        nlls.append(mass.log().mean().item() - of_label / temperature)
        errors.append(error_of(reliability_of(1 / mass, right, bins)))
    return nlls, errors


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """Find the temperature T that minimises the NLL of softmax(logits / T) (Guo et al. 2017, sec. 4.2).

    T lies within a factor `SHARPEST` of the spread of the logits, either way. The spread is the root mean square of
    the logits after each sample's mean is taken off. T is at a bound where every sample is right, since the NLL
    then falls for ever as T goes to 0, and where logits mislead, since it then falls as T grows. Scaled logits give
    the scaled temperature. Equal logits have the same NLL at each T, and get T = 1.

    Raises:
        ValueError: there is no sample, or a logit is not finite.
    """
    if not len(labels) or not torch.isfinite(logits).all():
        raise ValueError("fit_temperature takes finite logits of one sample or more. Drop what diverged.")
    centred = logits.double() - logits.double().mean(dim=1, keepdim=True)
    # Logits are divided by their spread, so that one pair of bounds fits all networks.
    spread = centred.square().mean().sqrt().item()
    # Equal logits can have a spread from rounding alone, which does not count.
    if spread <= 1e-12 * logits.abs().max().item():
        return 1.0
    of_label, below = _below_largest(centred / spread, labels)

    def slope(inverse: float) -> float:
        # The derivative of the NLL by 1/T: the mean logit that probabilities expect, less the label's.
        weights = (inverse * below).exp_()
        expected = torch.einsum("nk,nk->n", weights, below) / weights.sum(dim=1)
        return expected.mean().item() - of_label

    least, most = 1 / SHARPEST, SHARPEST
    # The slope rises with 1/T: its sign at a bound tells whether the minimum lies beyond.
    if slope(most) <= 0:
        return spread / most
    if slope(least) >= 0:
        return spread / least
    # The NLL is convex in 1/T, which scales the logits linearly, though not in T or log T. So a zero of the slope
    # is the minimum.
    from scipy.optimize import root_scalar  # takes half a second, so a training run that only logs skips it

    return spread / root_scalar(slope, bracket=(least, most), method="brentq", rtol=1e-12).root


def solve_temperature(smoothing: float, gamma: Callable[[float], float]) -> float:
    """Find the temperature T nearest to 1, in doublings, at which the equivalent smoothing is `smoothing`.

    T lies between 2^-20 and 2^20. `gamma` is the function from T to the equivalent smoothing, which mostly rises:
    from K/(K-1) times the share of wrong answers to almost 1.

    Raises:
        UnfitTeacher: no such T was found; the message has the range that γ has.
    """
    from scipy.optimize import root_scalar  # takes half a second, so runs with a given temperature skip it

    seen = {0: gamma(1.0)}
    for exponent in (sign * size for size in range(1, 21) for sign in (1, -1)):
        nearer = exponent - (1 if exponent > 0 else -1)
        seen[exponent] = gamma(2.0**exponent)
        if min(seen[nearer], seen[exponent]) <= smoothing <= max(seen[nearer], seen[exponent]):
            bracket = nearer, exponent
            root = root_scalar(lambda power: gamma(2.0**power) - smoothing, bracket=bracket, method="brentq")
            return 2.0**root.root
    expected = f"{min(seen.values()):.4g} to {max(seen.values()):.4g}, which temperatures reach with this cache"
    way_out = "Choose one between them, or set `loss.temperature` instead."
    raise UnfitTeacher("loss.equivalent_smoothing", smoothing, expected, way_out)


def _below_largest(logits: Logits, labels: Labels) -> tuple[float, Float[Tensor, "n k"]]:
    """Subtract each sample's largest logit; return the mean over the labels' logits, and all logits, in float64."""
    below = logits.double()
    below = below - below.amax(dim=1, keepdim=True)
    return below.gather(1, labels.unsqueeze(1)).mean().item(), below
