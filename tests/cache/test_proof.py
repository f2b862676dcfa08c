"""Test which views are proven."""

from __future__ import annotations

from distill.cache.proof import choose


def test_every_view_is_proven() -> None:
    for samples, views, classes in ((1295, 1, 10), (40, 16, 10), (1000, 200, 10), (3000, 300, 21_841), (5, 2, 3)):
        index, view = choose(samples, views, classes, seed=3)
        pairs = set(zip(index.tolist(), view.tolist(), strict=True))
        assert len(pairs) == len(index), "each once"
        assert view.tolist() == sorted(view.tolist())
        assert set(view.tolist()) == set(range(views))
        assert int(index.max()) < samples
        least = 1 if classes > 1000 else min(8, samples)
        assert view.bincount().min() >= least * 0.7  # draws of small sets meet
