"""Measure neural collapse: how near the last layer is to one point per class, in a regular simplex.

Source: Papyan et al. 2020; formulas are from Zhu et al. 2021 and their code. Features are the input of the last
linear layer, [n, d], and `weight` is the weight of this layer, [k, d]. At collapse all measures are 0, except
`nearest_centre_agreement`, which is 1. None depends on the scale or a rotation of features and weight. They are
computed in float64, in O(n d k) time and O(n d) memory.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from distill.metrics.arrays import Labels, Logits
from distill.metrics.class_means import class_means


def within_class_collapse(features: Float[Tensor, "n d"], labels: Labels) -> float:
    """Return NC1: tr(Σ_W Σ_B⁺) / K, the scatter within classes in units of the scatter between them.

    Σ_W = mean_i (h_i - μ_y)(h_i - μ_y)ᵀ and Σ_B = mean_c (μ_c - μ)(μ_c - μ)ᵀ, with μ the mean over samples and K
    the number of classes with samples. NaN if all class means coincide.
    """
    h = features.double()
    means = class_means(h, labels)
    centred = means[torch.bincount(labels) > 0] - h.mean(dim=0)
    if centred.norm() <= 1e-12 * h.norm():
        return float("nan")
    # With M the rows μ_c - μ, NC1 is mean_i ‖(h_i - μ_y) M⁺‖², which needs no matrix of d by d. M has rank K-1 at
    # most, so its smallest singular value is rounding.
    inverse = torch.linalg.pinv(centred, rtol=1e-10)
    return ((h - means[labels]) @ inverse).square().sum(dim=1).mean().item()


def equiangular_distance(weight: Float[Tensor, "k d"]) -> float:
    """Return NC2: the distance of WWᵀ, scaled to norm 1, from (I - 11ᵀ/K)/√(K-1), a regular simplex. O(k² d)."""
    w = weight.double()
    return _distance_to_simplex(w @ w.T)


def duality_distance(weight: Float[Tensor, "k d"], features: Float[Tensor, "n d"], labels: Labels) -> float:
    """Return NC3: the distance of W H̄, scaled to norm 1, from (I - 11ᵀ/K)/√(K-1); columns of H̄ are μ_c - μ.

    NC3 is 0 where weights and class means lie in the same directions and form a regular simplex. NaN if a class has
    no sample.
    """
    h = features.double()
    means = class_means(h, labels, len(weight))
    return _distance_to_simplex(weight.double() @ (means - h.mean(dim=0)).T)


def nearest_centre_agreement(features: Float[Tensor, "n d"], labels: Labels, logits: Logits) -> float:
    """Return NC4: the share of samples for which the network answers the class with the nearest mean of features.

    Classes without samples have no mean, and are never nearest.
    """
    h = features.double()
    classes = logits.shape[1]
    present = torch.bincount(labels, minlength=classes) > 0
    # `distance` is ‖h - μ‖² without ‖h‖², which is the same for all classes. It is taken around the mean of all
    # samples, so that a common shift costs no digits.
    origin = h.mean(dim=0)
    centres = torch.where(present.unsqueeze(1), class_means(h, labels, classes) - origin, 0.0)
    distance = centres.square().sum(dim=1) - 2 * (h - origin) @ centres.T
    nearest = distance.masked_fill(~present, torch.inf).argmin(dim=1)
    return (nearest == logits.argmax(dim=1)).double().mean().item()


def _distance_to_simplex(product: Float64[Tensor, "k k"]) -> float:
    classes = len(product)
    simplex = torch.eye(classes, dtype=product.dtype, device=product.device) - 1 / classes
    return (product / product.norm() - simplex / (classes - 1) ** 0.5).norm().item()
