"""Measure how activations lie around their classes' templates, the last layer's weight vectors with their bias
(Müller et al. 2019, section 2 and Figure 1).

Templates are rows (weights, bias) and points are (activations, 1), as the paper defines both. A logit is then their
product, and ‖x - w_k‖² = xᵀx - 2 xᵀw_k + w_kᵀw_k. Without the bias the plane would be another one, and where a
point lies on it would no longer say which logit is larger. With the bias, the two coordinates of a point on the
plane and its two differences of logits among the three classes are linear functions of each other. So a picture of
the plane shows all that the network says about these classes against each other, and nothing else.

All measures except `class_distance` are ratios, since smoothing shrinks activations. Rotating, shifting or scaling
points and templates together does not change them. The exception is `class_separation`, which changes with a shift:
its distances are angles at the origin. Labels count 0, 1, 2, ... and each class has at least one point.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from distill.metrics.arrays import Labels
from distill.metrics.class_means import class_means


class Plane(NamedTuple):
    """Describe an affine plane by an origin and two axes of its own."""

    origin: Float64[Tensor, " d"]
    basis: Float64[Tensor, "2 d"]
    """Orthonormal rows that span the plane."""


def plane_through(templates: Float[Tensor, "3 d"]) -> Plane:
    """Return the plane through three templates, with coordinates that depend on the templates alone.

    The origin is the centroid of the templates. The first axis points to the first template, and the second
    template lies on the positive side of the second axis. So pictures of two networks can be compared side by side.
    The basis spans the plane of the QR decomposition of [w₂ - w₁, w₃ - w₁].

    Raises:
        ValueError: the three templates lie on one line.
    """
    corners = templates.double()
    origin = corners.mean(dim=0)
    q, r = torch.linalg.qr((corners[:2] - origin).T)
    lengths = r.diagonal()
    if lengths.abs().min() <= 1e-9 * (corners - origin).norm():
        raise ValueError("three templates on one line: expected a triangle. Take other classes.")
    return Plane(origin, (q * lengths.sign()).T.contiguous())


def project(plane: Plane, points: Float[Tensor, "n d"]) -> Float64[Tensor, "n 2"]:
    """Return the coordinates of the point of the plane that is nearest to each point."""
    return (points.double() - plane.origin) @ plane.basis.T


def class_distance(points: Float[Tensor, "n d"], labels: Labels) -> float:
    """Return the root of the mean squared distance between two class means, over all pairs of classes."""
    return _mean_squared_distance(class_means(points.double(), labels)).sqrt().item()


def compactness(points: Float[Tensor, "n d"], labels: Labels) -> Float64[Tensor, " k"]:
    """Return how wide each class is: mean squared distance to the class mean, over `class_distance` squared."""
    exact = points.double()
    means = class_means(exact, labels)
    spread = (exact - means[labels]).square().sum(dim=1, keepdim=True)
    return class_means(spread, labels).squeeze(1) / _mean_squared_distance(means)


def scatter_ratio(features: Float[Tensor, "n d"], labels: Labels) -> float:
    """Return the scatter within classes over the scatter between them, as traces of the scatter matrices.

    Every point weighs the same. For points on the plane the ratio would be nearly `compactness`. For activations it
    also counts the directions that the plane does not show.
    """
    exact = features.double()
    means = class_means(exact, labels)[labels]
    within, between = (exact - means).square().sum(), (means - exact.mean(dim=0)).square().sum()
    return (within / between).item()


def triangle_irregularity(points: Float[Tensor, "n d"], labels: Labels) -> float:
    """Return how unequal the sides of the triangle (polygon) of class means are: standard deviation over mean.

    It is 0 if the triangle is regular; for three classes it is 1/√2 when two means coincide.
    """
    sides = torch.pdist(class_means(points.double(), labels))
    return (sides.std(correction=0) / sides.mean()).item()


def distance_imbalance(points: Float[Tensor, "n d"], templates: Float[Tensor, "3 d"], labels: Labels) -> float:
    """Measure how unequally near points of three classes are to the templates of their two incorrect classes.

    With D_k = ‖x - w_k‖², a and b the incorrect classes of a point and y its own: mean |D_a - D_b| / mean ((D_a +
    D_b)/2 - D_y). Differences of squared distances are the same on the plane and in the whole space. The measure is
    0 if every point is equally distant from the templates of the incorrect classes. With templates in a regular
    triangle, and points at an angle θ from the ray to their own template, it is 2/√3 · tan θ, however far out the
    points are. NaN unless points are on average nearer to their own template than to the others.
    """
    distances = (points.double().unsqueeze(1) - templates.double()).square().sum(dim=2)
    own = torch.nn.functional.one_hot(labels, 3).bool()
    incorrect = distances[~own].view(-1, 2)
    nearer = (incorrect.mean(dim=1) - distances[own]).mean()
    imbalance = (incorrect[:, 0] - incorrect[:, 1]).abs().mean()
    return (imbalance / nearer).item() if nearer > 0 else float("nan")


def class_separation(features: Float[Tensor, "n d"], labels: Labels) -> float:
    """Return R² = 1 - d_within / d_total of cosine distances: 0 for mixed classes, 1 for one direction per class.

    d_within is the mean distance over all pairs of samples of one class, averaged over classes. d_total is the mean
    distance over all pairs of samples of two classes; each pair of classes weighs the same, and a class paired with
    itself counts too (Kornblith et al. 2021, eq. 11). A feature vector of zeros has no direction, and distance 1 to
    all others. NaN if all point in one direction. A shift of the features changes R²; a scale or a rotation does
    not. O(n d).
    """
    directions = torch.nn.functional.normalize(features.double(), dim=1)
    means = class_means(directions, labels)
    means = means[torch.bincount(labels) > 0]
    # With features of length 1, the mean distances are 1 - mean_c ‖μ_c‖² and 1 - ‖mean_c μ_c‖².
    within, total = 1 - means.square().sum(dim=1).mean(), 1 - means.mean(dim=0).square().sum()
    return (1 - within / total).item() if total > 1e-12 else float("nan")


def linear_cka(features: Float[Tensor, "n d"], other: Float[Tensor, "n e"]) -> float:
    """Return how alike two networks' features are, sample by sample, 0 to 1 (Kornblith et al. 2019, linear CKA).

    ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features, with Frobenius norms: O(n d²), with no matrix of n by n. Rotating,
    shifting or scaling either set of features changes nothing. NaN if either is constant.
    """
    x, y = (part.double() - part.double().mean(dim=0) for part in (features, other))
    return ((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())).item()


def _mean_squared_distance(means: Float64[Tensor, "k d"]) -> Float64[Tensor, ""]:
    return torch.pdist(means).square().mean()
