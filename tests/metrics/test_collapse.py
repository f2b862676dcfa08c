"""Neural collapse: the formulas with all their matrices, what collapse gives, and what may not matter."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from distill.metrics.collapse import (
    duality_distance,
    equiangular_distance,
    nearest_centre_agreement,
    within_class_collapse,
)

seeds = st.integers(0, 10_000)


def draw(seed: int, n: int = 40, d: int = 7, k: int = 4):
    """Features around a place per class, labels, weights and the logits that they give."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(k), torch.randint(k, (n - k,), generator=generator)])
    places = 3 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    features = places[labels] + torch.randn(n, d, generator=generator, dtype=torch.float64)
    weight = places + torch.randn(k, d, generator=generator, dtype=torch.float64)
    return features, labels, weight, features @ weight.T


def measures(
    features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor
) -> list[float]:
    return [
        within_class_collapse(features, labels),
        equiangular_distance(weight),
        duality_distance(weight, features, labels),
        nearest_centre_agreement(features, labels, logits),
    ]


def slow(features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor) -> list[float]:
    """The formulas of Zhu et al. 2021, matrix by matrix; the pseudo-inverse cut to rank K-1, as there."""
    h, y, w, k = features.double().numpy(), labels.numpy(), weight.double().numpy(), len(weight)
    mean = h.mean(0)
    means = np.stack([h[y == c].mean(0) for c in range(k)])
    within = sum(np.outer(row - means[c], row - means[c]) for row, c in zip(h, y, strict=True)) / len(h)
    between = sum(np.outer(row - mean, row - mean) for row in means) / k
    u, s, v = np.linalg.svd(between)
    inverse = v[: k - 1].T @ np.diag(1 / s[: k - 1]) @ u[:, : k - 1].T
    simplex = (np.eye(k) - np.ones((k, k)) / k) / math.sqrt(k - 1)
    gram, dual = w @ w.T, w @ (means - mean).T
    nearest = [min(range(k), key=lambda c: float(np.linalg.norm(row - means[c]))) for row in h]
    return [
        float(np.trace(within @ inverse)) / k,
        float(np.linalg.norm(gram / np.linalg.norm(gram) - simplex)),
        float(np.linalg.norm(dual / np.linalg.norm(dual) - simplex)),
        float(np.mean(np.array(nearest) == logits.numpy().argmax(1))),
    ]


@given(seed=seeds, d=st.integers(4, 9), k=st.integers(2, 5))
@settings(deadline=None, max_examples=40)
def test_against_the_matrices(seed, d, k):
    data = draw(seed, 30, d, k)
    assert measures(*data) == pytest.approx(slow(*data), rel=1e-8)


def test_in_single_precision():
    data = [part.float() if part.is_floating_point() else part for part in draw(0)]
    assert measures(*data) == pytest.approx(slow(*data), rel=1e-8)


def test_fewer_dimensions_than_classes():
    """Σ_B has rank d then, and the pseudo-inverse is the inverse."""
    features, labels, _, _ = draw(3, 60, 2, 6)
    h, y = features.numpy(), labels.numpy()
    means = np.stack([h[y == c].mean(0) for c in range(6)])
    between = sum(np.outer(row - h.mean(0), row - h.mean(0)) for row in means) / 6
    within = (h - means[y]).T @ (h - means[y]) / 60
    expected = float(np.trace(within @ np.linalg.inv(between))) / 6
    assert within_class_collapse(features, labels) == pytest.approx(expected)


@given(seed=seeds, scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=30)
def test_rotations_scales_and_orders_change_nothing(seed, scale):
    features, labels, weight, logits = draw(seed)
    before = pytest.approx(measures(features, labels, weight, logits), rel=1e-8)
    turn = torch.from_numpy(ortho_group.rvs(7, random_state=seed))
    assert measures(scale * features @ turn, labels, 3 * weight @ turn, logits) == before
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(40, generator=generator), torch.randperm(4, generator=generator)
    assert (
        measures(features[rows], columns.argsort()[labels[rows]], weight[columns], logits[rows][:, columns])
        == before
    )
    # All but the weights is around the mean of the features.
    assert measures(features + 5, labels, weight, logits) == before


@given(seed=seeds, k=st.integers(2, 6))
@settings(deadline=None, max_examples=20)
def test_collapse(seed, k):
    """One point per class, in a regular simplex, and weights in the same directions."""
    simplex = torch.eye(k, dtype=torch.float64) - 1 / k
    labels = torch.arange(k).repeat(3)
    turn = torch.from_numpy(ortho_group.rvs(k, random_state=seed))
    points, weight = 2 * simplex @ turn, 5 * simplex @ turn
    found = measures(points[labels] + 1, labels, weight, points[labels] @ weight.T)
    assert found == pytest.approx([0, 0, 0, 1], abs=1e-12)


def test_classes_on_a_line():
    """Means at ±1 and points at ±r around them: Σ_W = r², Σ_B = 1."""
    features = torch.tensor([[0.8, 0.0], [1.2, 0.0], [-0.8, 0.0], [-1.2, 0.0]])
    assert within_class_collapse(features, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.04 / 2, rel=1e-6)


def test_orthogonal_weights_are_no_simplex():
    """cos of the angle between I and I - 11ᵀ/K is √((K-1)/K)."""
    expected = math.sqrt(2 - 2 * math.sqrt(3 / 4))
    assert equiangular_distance(torch.eye(4)) == pytest.approx(expected)


def test_classes_without_samples():
    features, labels, weight, logits = draw(0)
    kept = labels < 3
    found = measures(features[kept], labels[kept], weight, logits[kept])
    few = within_class_collapse(features[kept], labels[kept])
    assert found[0] == pytest.approx(few)
    assert found[0] == pytest.approx(within_class_collapse(features[kept], 2 * labels[kept]))
    assert math.isnan(found[2])
    restricted = nearest_centre_agreement(features[kept], labels[kept], logits[kept][:, :3])
    assert nearest_centre_agreement(
        features[kept], labels[kept], logits[kept].index_fill(1, torch.tensor(3), -99)
    ) == (pytest.approx(restricted))


def test_equal_class_means_have_no_scatter_between():
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    assert math.isnan(within_class_collapse(features, torch.tensor([0, 0, 1, 1])))


def test_the_mean_of_no_sample_is_not_nearest():
    """Means at 1 and -1; points at 0.4 and -0.4 are nearer to the mean of all, which no class has."""
    features = torch.tensor([[0.4], [1.6], [-0.4], [-1.6]])
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.eye(3)[labels]
    assert nearest_centre_agreement(features, labels, logits) == 1
    assert nearest_centre_agreement(features, labels, logits[[0, 2, 3, 1]]) == pytest.approx(1 / 2)
