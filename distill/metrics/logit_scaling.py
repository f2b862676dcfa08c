"""Fit maps of logits on held-out data, after which probabilities say how often a network is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from distill.config import CalibrationMethod
from distill.errors import UserError
from distill.metrics.arrays import Labels, Logits
from distill.metrics.temperature import fit_temperature

Method = Literal["none", CalibrationMethod]
"""Method of calibration: one of `config.CalibrationMethod`, or none, which leaves logits as they are."""
RIDGE = 0.01
"""Strength of the ridge of vector scaling, in samples.

The ridge stands for a normal prior with a standard deviation of 10.
"""


@dataclass(frozen=True)
class Scaling:
    """Map logits z to calibrated logits."""

    method: Method
    """Kind of map.

    - none: z.
    - temperature and vector: scale · z + bias.
    - platt: log σ(scale · s + bias), where s_k is the log-odds of class k against the rest.
    """
    scale: Float64[Tensor, " one_or_k"]
    """Scale of the logits: 1 / T for a single temperature, otherwise one per class."""
    bias: Float64[Tensor, " one_or_k"]
    """Bias of the logits: 0 for a temperature, otherwise one per class."""

    def apply(self, logits: Logits) -> Float64[Tensor, "n k"]:
        """Return the calibrated logits, whose softmax is the calibrated probabilities."""
        return scaled(self.method, logits.double(), self.scale.to(logits.device), self.bias.to(logits.device))


def identity() -> Scaling:
    """Return the map that leaves logits as they are."""
    return Scaling("none", torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))


def fit(method: Method, logits: Logits, labels: Labels) -> Scaling:
    """Fit the map after which probabilities match labels best, in float64.

    temperature: the temperature of `fit_temperature`, so 1/T is bounded.

    vector: a scale and a bias per class that minimise the NLL, which is convex (Guo et al. 2017, sec. 4.2). The fit
    starts from temperature scaling, and a ridge of `RIDGE` / n · ½ Σ_k ((T w_k - 1)² + b_k²) added to the mean NLL
    holds it there. The ridge hardly matters with some hundred samples. Yet it keeps parameters finite for a class
    that is perfectly separated, or that no sample has. Biases have the mean 0; another mean would change nothing.

    platt: per class, σ(a s + b) of the class's log-odds s against the rest, by maximum likelihood. The targets are
    (N₊ + 1)/(N₊ + 2) and 1/(N₋ + 2) instead of 1 and 0, so a minimum exists even where s separates perfectly (Platt
    1999). The K results, divided by their sum, are the probabilities (Zadrozny & Elkan 2002). A class that no
    sample has, or that all have, keeps its probability (a = 1, b = 0). A class whose log-odds are all equal keeps
    its slope.

    Vector and platt may change which class has the largest probability.

    Args:
        method: kind of map.
        logits: logits of samples on which the network was not trained.
        labels: classes of the samples.

    Raises:
        UserError: there is no sample, or a logit is not finite.
    """
    if method == "none":
        return identity()
    if not len(labels):
        expected = "one image or more, since the map is fitted on images not trained on"
        raise UserError("data.held_out", "no images", expected, "Train the network with `data.held_out=0.1`.")
    if not torch.isfinite(logits).all():
        raise UserError("logits", "not finite", "finite numbers", "Drop what diverged.")
    logits = logits.double()
    if method == "vector":
        return _fit_vector(logits, labels)
    if method == "platt":
        return _fit_platt(logits, labels)
    slope = torch.tensor([1 / fit_temperature(logits, labels)], dtype=torch.float64, device=logits.device)
    return Scaling(method, slope, torch.zeros_like(slope))


def scaled(
    method: Method, logits: Logits, scale: Float[Tensor, " one_or_k"], bias: Float[Tensor, " one_or_k"]
) -> Float[Tensor, "n k"]:
    """Apply a calibration map to logits without changing their dtype; `torch.export` can trace this function."""
    if method == "none":
        return logits
    if method == "platt":
        return F.logsigmoid(log_odds(logits) * scale + bias)
    return logits * scale + bias


def log_odds(logits: Logits) -> Float[Tensor, "n k"]:
    """Return log p_k / (1 - p_k) of the softmax probabilities, without cancellation where p_k is close to 1."""
    log_p = torch.log_softmax(logits, dim=1)
    top = logits.argmax(dim=1, keepdim=True)
    # All classes except the largest have p ≤ ½. For the largest, 1 - p is the sum of the others.
    others = log_p.scatter(1, top, -torch.inf)
    of_top = torch.logsumexp(others, dim=1, keepdim=True)
    of_others = torch.log1p(-others.exp())
    return log_p - of_others.scatter(1, top, of_top)


def _fit_vector(logits: Float64[Tensor, "n k"], labels: Labels) -> Scaling:
    temperature = fit_temperature(logits, labels)
    n, classes = logits.shape
    start = logits / temperature
    ridge = RIDGE / n
    wanted = F.one_hot(labels, classes).double()
    centre = _ones_and_zeros(start[0])

    def loss(both: Float64[Tensor, "2 k"]) -> tuple[float, Float64[Tensor, "2 k"]]:
        log_p = torch.log_softmax(start * both[0] + both[1], dim=1)
        error = (log_p.exp() - wanted) / n
        away = both - centre
        value = -log_p.gather(1, labels.unsqueeze(1)).mean() + ridge / 2 * away.square().sum()
        return value.item(), torch.stack([(error * start).sum(dim=0), error.sum(dim=0)]) + ridge * away

    scale, bias = _minimise(loss, centre)
    return Scaling("vector", scale / temperature, bias - bias.mean())


def _fit_platt(logits: Float64[Tensor, "n k"], labels: Labels) -> Scaling:
    odds = log_odds(logits)
    n, classes = odds.shape
    positive = F.one_hot(labels, classes).bool()
    count = positive.sum(dim=0)
    judged = (count > 0) & (count < n)
    # The targets of Platt (1999), which replace 1 and 0.
    targets = torch.where(positive, (count.double() + 1) / (count + 2), 1 / (n - count.double() + 2))
    # Standardised log-odds make all classes look alike to the optimiser; the fitted map is the same.
    centre = odds.mean(dim=0)
    spread = odds.std(dim=0, unbiased=False)
    # Equal log-odds can have a spread from rounding alone, which does not count.
    varies = spread > 1e-12 * odds.abs().amax(dim=0)
    spread = spread.where(varies, 1.0)
    standard = ((odds - centre) / spread).where(varies, 0.0)

    def loss(both: Float64[Tensor, "2 k"]) -> tuple[float, Float64[Tensor, "2 k"]]:
        margin = standard * both[0] + both[1]
        value = (F.softplus(margin) - targets * margin).mean(dim=0)
        error = (torch.sigmoid(margin) - targets) / n
        slope = torch.stack([(error * standard).sum(dim=0), error.sum(dim=0)])
        return value[judged].sum().item(), slope.where(judged, 0.0)

    a, b = _minimise(loss, _ones_and_zeros(centre))
    # Where all log-odds are equal, any slope fits; 1 keeps the order of other images.
    a = (a / spread).where(varies, 1.0)
    return Scaling("platt", a.where(judged, 1.0), (b - a * centre).where(judged, 0.0))


def _ones_and_zeros(row: Float64[Tensor, " k"]) -> Float64[Tensor, "2 k"]:
    """Return the scales and biases that change nothing."""
    return torch.stack([torch.ones_like(row), torch.zeros_like(row)])


def _minimise(
    loss: Callable[[Float64[Tensor, "2 k"]], tuple[float, Float64[Tensor, "2 k"]]], start: Float64[Tensor, "2 k"]
) -> Float64[Tensor, "2 k"]:
    """Find where a convex loss, which is given with its gradient, is least."""
    from scipy.optimize import minimize  # takes half a second, so applying a map skips it

    def flat(values):
        value, slope = loss(torch.from_numpy(values).view(start.shape).to(start.device))
        return value, slope.cpu().numpy().ravel()

    options = {"maxiter": 2_000, "maxfun": 10_000, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-8}
    result = minimize(flat, start.cpu().numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(result.x).view(start.shape).to(start.device)
