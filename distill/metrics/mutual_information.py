"""Estimate the mutual information between the index of an image and what a network says of random views of it.

X is the index of one of N images, each equally likely. Y = f(d(z_x)) is a number that the network gives for a
random view d of the image, such as a difference of two logits. Müller et al. 2019, section 3, take Y given x to be
Gaussian with a variance that all images share.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

_ROWS = 1024
"""Number of images whose distances to all means are held at a time."""


def mutual_information(evaluated: Float[Tensor, " n"], drawn: Float[Tensor, "n l"]) -> float:
    """Estimate I(X;Y) in nats, with X one of n images and Y an output for one of its views: `drawn` has l views of
    each image, for its mean output, and `evaluated` one more view.

    With y_x the evaluated view, μ_x the mean over the other views and σ² = mean_x (y_x - μ_x)²:

        I = mean_x [ -(y_x - μ_x)² / 2σ² - log( mean_x' exp(-(y_x - μ_x')² / 2σ²) ) ]

    The paper prints x for the index of the inner mean too. Read so, each residual is compared with residuals, no
    image with another, and the result is at most 0 whatever the data (Jensen). Here y_x is compared with the means
    of all images x', which is what the paper means.

    A shift or a scale of Y changes nothing. The value lies in [-1/2, log n]. It is log n for means that are far
    apart, and for a finite l it is below the truth; `collapsed_information` says by how much for collapsed classes.
    Evaluating one of the views that made the means would err to the other side. Where Y does not depend on the
    view, so that σ = 0, the result is the limit: the entropy of the distinct values.
    """
    y, means = evaluated.double().cpu(), drawn.double().cpu().mean(dim=1)
    residual = y - means
    sigma = residual.square().mean().sqrt()
    if sigma == 0:
        _, counts = means.unique(return_counts=True)
        share = counts / counts.sum()
        return float(-(share * share.log()).sum())
    inner = [torch.logsumexp(-((part.unsqueeze(1) - means) / sigma).square() / 2, dim=1) for part in y.split(_ROWS)]
    own = -(residual / sigma).square() / 2
    return float((own - torch.cat(inner)).mean() + torch.tensor(float(len(y)), dtype=torch.float64).log())


def printed_information(evaluated: Float[Tensor, " n"], drawn: Float[Tensor, "n l"]) -> float:
    """Compute the formula of `mutual_information` as it is printed, with one index in both means: at most 0.

    It knows residuals only, so it says nothing of which image is which: for Gaussian outputs it is about
    (log 2 - 1) / 2 = -0.153, whatever the network. Where no view differs from its mean it is 0.
    """
    residual = evaluated.double().cpu() - drawn.double().cpu().mean(dim=1)
    sigma = residual.square().mean().sqrt()
    if sigma == 0:
        return 0.0
    own = -(residual / sigma).square() / 2
    return float(own.mean() - (torch.logsumexp(own, dim=0) - torch.tensor(float(len(own))).double().log()))


@lru_cache(maxsize=32)
def collapsed_information(images: int, draws: int, clusters: int = 2, repetitions: int = 50) -> float:
    """Simulate what `mutual_information` estimates on average if outputs reveal only an image's cluster.

    The truth is log(clusters), with clusters of one size. The estimate is lower, since the means of `draws` views
    are noisy. For many images it is lower by 1/(L+2) - log((L+2)/(L+1)) / 2 with L draws, which follows from the
    estimator with Gaussian μ_x and y_x. Here it is simulated for the given number of images, `repetitions` times.
    """
    # Gaussian values around centres that are far apart, with images dealt out to the clusters in turn.
    generator = torch.Generator().manual_seed(0)
    centres = 1e3 * (torch.arange(images) % clusters).double().unsqueeze(1)
    total = 0.0
    for _ in range(repetitions):
        values = centres + torch.randn(images, draws + 1, generator=generator, dtype=torch.float64)
        total += mutual_information(values[:, 0], values[:, 1:])
    return total / repetitions
