"""The plane through three templates, and how activations lie on it: closed forms, invariants, logits as oracle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from distill.metrics.geometry import (
    class_distance,
    class_separation,
    compactness,
    distance_imbalance,
    linear_cka,
    plane_through,
    project,
    scatter_ratio,
    triangle_irregularity,
)

seeds = st.integers(0, 10_000)
REGULAR = torch.tensor([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]], dtype=torch.float64)
"""Corners of a regular triangle around the origin, with sides √3."""


def draw(seed: int, n: int = 30, d: int = 6, classes: int = 3):
    """Points around a place per class, at least one each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=generator)])
    places = 3 * torch.randn(classes, d, generator=generator, dtype=torch.float64)
    return places[labels] + torch.randn(n, d, generator=generator, dtype=torch.float64), labels, places


def rotation(seed: int, d: int) -> torch.Tensor:
    return torch.from_numpy(ortho_group.rvs(d, random_state=seed))


def measures(points: torch.Tensor, templates: torch.Tensor, labels: torch.Tensor) -> list[float]:
    return [
        *compactness(points, labels).tolist(),
        scatter_ratio(points, labels),
        triangle_irregularity(points, labels),
        distance_imbalance(points, templates, labels),
    ]


@given(seed=seeds, d=st.integers(2, 9))
@settings(deadline=None, max_examples=30)
def test_coordinates_are_canonical(seed, d):
    templates = torch.randn(3, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    plane = plane_through(templates)
    torch.testing.assert_close(plane.basis @ plane.basis.T, torch.eye(2).double())
    at = project(plane, templates)
    assert at.mean(0).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert at[0, 0] > 0
    assert at[0, 1].item() == pytest.approx(0, abs=1e-12)
    assert at[1, 1] > 0
    # The templates lie in the plane: nothing is lost on the way there and back.
    torch.testing.assert_close(at @ plane.basis + plane.origin, templates)


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_it_is_the_plane_of_the_paper(seed):
    """Same projector as that of QR of [w₂ - w₁, w₃ - w₁]."""
    templates = torch.randn(3, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q, _ = torch.linalg.qr((templates[1:] - templates[0]).T)
    basis = plane_through(templates).basis
    torch.testing.assert_close(basis.T @ basis, q @ q.T)


@given(seed=seeds, scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_coordinates_turn_shift_and_scale_with_everything(seed, scale):
    points, _, templates = draw(seed)
    turn, shift = rotation(seed, 6), torch.linspace(-3, 3, 6).double()
    before = project(plane_through(templates), points)
    moved = plane_through(scale * templates @ turn + shift)
    torch.testing.assert_close(project(moved, scale * points @ turn + shift), scale * before, rtol=1e-7, atol=1e-8)


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_the_plane_shows_the_differences_of_logits(seed):
    """With the bias in template and point: z_i - z_j is linear in the coordinates, to the last digit."""
    generator = torch.Generator().manual_seed(seed)
    weights, bias = torch.randn(3, 8, generator=generator).double(), torch.randn(3, generator=generator).double()
    activations = torch.randn(20, 8, generator=generator).double()
    logits = activations @ weights.T + bias
    templates = torch.cat([weights, bias[:, None]], 1)
    plane = plane_through(templates)
    points = project(plane, torch.cat([activations, torch.ones(20, 1).double()], 1))
    of_coordinates = points @ project(plane, templates).T + plane.origin @ templates.T
    torch.testing.assert_close(of_coordinates.diff(dim=1), logits.diff(dim=1))


def test_three_templates_on_a_line_are_no_plane():
    with pytest.raises(ValueError, match="on one line"):
        plane_through(torch.tensor([[0.0, 0, 1], [1.0, 1, 1], [3.0, 3, 1]]))


@given(seed=seeds, scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_measures_know_no_rotation_shift_scale_and_order_of_classes(seed, scale):
    points, labels, templates = draw(seed)
    before = measures(points, templates, labels)
    turn, shift = rotation(seed, 6), torch.linspace(-3, 3, 6).double()
    moved = measures(scale * points @ turn + shift, scale * templates @ turn + shift, labels)
    assert moved == pytest.approx(before, rel=1e-6, nan_ok=True)
    order = torch.tensor([2, 0, 1])
    renamed = measures(points, templates[order.argsort()], order[labels])
    assert renamed[3:] == pytest.approx(before[3:], nan_ok=True)
    assert [renamed[cls] for cls in order.tolist()] == pytest.approx(before[:3])
    assert class_distance(scale * points @ turn + shift, labels) == pytest.approx(
        scale * class_distance(points, labels)
    )


def test_compactness_of_points_on_circles():
    """Circles of radius r around corners with sides √3: r² / 3 for each class."""
    angles = 2 * math.pi * torch.arange(12).double() / 12
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    radii = 0.1, 0.2, 0.0
    points = torch.cat([corner + radius * circle for corner, radius in zip(REGULAR, radii, strict=True)])
    labels = torch.arange(3).repeat_interleave(12)
    assert class_distance(points, labels) == pytest.approx(math.sqrt(3))
    assert compactness(points, labels).tolist() == pytest.approx([r * r / 3 for r in radii], abs=1e-15)
    # Means at distance 1 from their centre: the scatter between is 1, within the mean of r².
    assert scatter_ratio(points, labels) == pytest.approx(sum(r * r for r in radii) / 3)
    assert triangle_irregularity(points, labels) == pytest.approx(0, abs=1e-12)


def test_measures_against_numpy():
    points, labels, _ = draw(1)
    x, y = points.numpy(), labels.numpy()
    groups = [x[y == c] for c in range(3)]
    means = [group.mean(0) for group in groups]
    pairs = [np.linalg.norm(means[a] - means[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    between = np.mean(np.square(pairs))
    expected = [np.sum((group - group.mean(0)) ** 2) / len(group) / between for group in groups]
    assert compactness(points, labels).tolist() == pytest.approx(expected)
    within = sum(np.trace(np.cov(group.T, bias=True)) * len(group) for group in groups)
    total = np.trace(np.cov(x.T, bias=True)) * len(x)
    assert scatter_ratio(points, labels) == pytest.approx(within / (total - within))
    assert triangle_irregularity(points, labels) == pytest.approx(np.std(pairs) / np.mean(pairs))


def test_the_most_irregular_triangle_has_two_means_in_one_point():
    points = torch.tensor([[0.0, 1.0], [0.0, 1.0], [5.0, 2.0]])
    assert triangle_irregularity(points, torch.arange(3)) == pytest.approx(1 / math.sqrt(2))


@given(angle=st.floats(-1.4, 1.4), far=st.floats(0.1, 100), own=st.integers(0, 2))
@settings(deadline=None, max_examples=40)
def test_imbalance_is_an_angle_for_regular_templates(angle, far, own):
    """2/√3 · tan |θ| off the ray to the own template, however far out, and nothing on the ray."""
    direction = math.atan2(REGULAR[own, 1].item(), REGULAR[own, 0].item()) + angle
    point = far * torch.tensor([[math.cos(direction), math.sin(direction)]], dtype=torch.float64)
    expected = 2 / math.sqrt(3) * math.tan(abs(angle))
    assert distance_imbalance(point, REGULAR, torch.tensor([own])) == pytest.approx(expected, rel=1e-9, abs=1e-10)


def test_imbalance_is_the_same_on_the_plane_and_in_the_whole_space():
    points, labels, templates = draw(2)
    plane = plane_through(templates)
    on_plane = distance_imbalance(project(plane, points), project(plane, templates), labels)
    assert on_plane == pytest.approx(distance_imbalance(points, templates, labels))
    slow = []
    for x, y in zip(points.numpy(), labels.tolist(), strict=True):
        squared = [float(np.sum((x - w) ** 2)) for w in templates.numpy()]
        a, b = (squared[c] for c in range(3) if c != y)
        slow.append((abs(a - b), (a + b) / 2 - squared[y]))
    assert on_plane == pytest.approx(np.mean([s for s, _ in slow]) / np.mean([s for _, s in slow]))


def test_imbalance_is_not_defined_for_points_at_the_wrong_templates():
    assert math.isnan(distance_imbalance(REGULAR, REGULAR, torch.tensor([1, 2, 0])))


def slow_separation(features: torch.Tensor, labels: torch.Tensor) -> float:
    """Equation 11 of Kornblith et al. 2021, pair by pair."""
    x, y = features.double().numpy(), labels.numpy()
    classes, counts = sorted(set(y.tolist())), np.bincount(y)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return 1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))

    within = total = 0.0
    for j in classes:
        for k in classes:
            pairs = sum(distance(a, b) for a in x[y == j] for b in x[y == k]) / (counts[j] * counts[k])
            total += pairs / len(classes) ** 2
            within += pairs / len(classes) if j == k else 0.0
    return 1 - within / total


@given(seed=seeds, n=st.integers(4, 20), classes=st.integers(2, 4))
@settings(deadline=None, max_examples=30)
def test_class_separation_against_all_pairs(seed, n, classes):
    points, labels, _ = draw(seed, n, classes=classes)
    expected = pytest.approx(slow_separation(points, labels), rel=1e-9, abs=1e-12)
    assert class_separation(points, labels) == expected
    # A number that no class has, and single precision.
    assert class_separation(points, 2 * labels + 1) == expected
    single = class_separation(points.float(), labels)
    assert single == pytest.approx(slow_separation(points.float(), labels), rel=1e-9, abs=1e-12)


@given(seed=seeds, scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_class_separation_knows_directions_only(seed, scale):
    points, labels, _ = draw(seed)
    before = class_separation(points, labels)
    assert 0 <= before <= 1
    assert class_separation(scale * points @ rotation(seed, 6), labels) == pytest.approx(before, rel=1e-9)
    lengths = torch.linspace(0.1, 9, len(points)).double().unsqueeze(1)
    assert class_separation(lengths * points, labels) == pytest.approx(before, rel=1e-9)
    order = torch.tensor([2, 0, 1])
    assert class_separation(points.flip(0), order[labels].flip(0)) == pytest.approx(before, rel=1e-9)


def test_class_separation_of_collapsed_mixed_and_equal_features():
    labels = torch.arange(3).repeat(4)
    assert class_separation(REGULAR[labels], labels) == pytest.approx(1)
    assert class_separation(REGULAR[torch.arange(3).repeat_interleave(4)], labels) == pytest.approx(1 / 16)
    assert math.isnan(class_separation(torch.ones(12, 2), labels))
    half = torch.cat([REGULAR, REGULAR[[1, 2, 0]]])
    assert class_separation(half, torch.arange(3).repeat(2)) == pytest.approx(1 / 4)


def slow_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """In the form of similarities of samples: HSIC of the Gram matrices of n by n."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n
    k, m = (centre @ (a @ a.T) @ centre for a in (x.double().numpy(), y.double().numpy()))
    return float(np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m)))


@given(seed=seeds, n=st.integers(3, 20), scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=30)
def test_linear_cka(seed, n, scale):
    points, _, _ = draw(seed, n)
    other = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    found = linear_cka(points, other)
    assert found == pytest.approx(slow_cka(points, other), rel=1e-8, abs=1e-12)
    assert 0 <= found <= 1 + 1e-12
    assert linear_cka(other, points) == pytest.approx(found, rel=1e-9)
    moved = scale * points @ rotation(seed, 6) + 3
    assert linear_cka(moved, other) == pytest.approx(found, rel=1e-8, abs=1e-12)
    assert linear_cka(moved, points) == pytest.approx(1)


def test_linear_cka_of_features_that_have_nothing_in_common():
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 0], [0, 0]])
    y = torch.tensor([[0.0], [0], [1], [-1]])
    assert linear_cka(x, y) == pytest.approx(0, abs=1e-12)
    assert math.isnan(linear_cka(x, torch.ones(4, 3)))
