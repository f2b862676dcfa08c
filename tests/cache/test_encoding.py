"""Test stored rows: what is exact, what is not, and by how much."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.cache.encoding import Encoding, distribution_errors
from distill.errors import UserError


def logits(n: int, k: int, seed: int = 0, scale: float = 5.0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * scale


def slow_decoding(row: torch.Tensor, k: int) -> np.ndarray:
    """Truncate one row in float64, the slow way: the k largest stay, the others share what is left."""
    z = row.double().numpy()
    kept = sorted(range(len(z)), key=lambda c: -z[c])[:k]
    mass = sum(math.exp(z[c]) for c in range(len(z)) if c not in kept)
    each = math.log(mass / (len(z) - k)) if len(z) > k else math.nan
    return np.array([z[c] if c in kept else each for c in range(len(z))])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dense_rows_are_the_rounded_logits(dtype) -> None:
    exact = logits(50, 10)
    encoding = Encoding(10, dtype)
    rows, _ = encoding.encode(exact)
    mean = exact.double().mean(1, keepdim=True).float() if dtype == "float16" else torch.zeros(50, 1)
    assert rows.nbytes == 50 * encoding.bytes_per_row == 50 * (40 if dtype == "float32" else 24)
    rounded = (exact - mean).to(getattr(torch, dtype)).float() + mean
    assert torch.equal(encoding.decode(rows), rounded)
    error = encoding.rounding_error(exact, rows)
    assert error == pytest.approx(float((rounded - exact).abs().max()))
    assert (error == 0) == (dtype == "float32")


@pytest.mark.fault("logits that a small type loses")
@pytest.mark.parametrize("top_k", [None, 4])
@pytest.mark.parametrize("offset", [0.0, 60_000.0, -60_000.0])
def test_a_common_offset_costs_no_probability(offset: float, top_k: int | None) -> None:
    exact, half, whole = logits(200, 10) + offset, Encoding(10, "float16", top_k), Encoding(10, "float32", top_k)
    stored, kept = (encoding.decode(encoding.encode(exact)[0]) for encoding in (half, whole))
    assert distribution_errors(kept, stored)["tv_max_T1"] < 0.005
    assert float((stored - kept).abs().max()) < 0.02, "logit matching needs the offset"


def test_the_bytes_of_a_row_do_not_depend_on_its_batch() -> None:
    exact = logits(1000, 10)
    whole = Encoding(10).encode(exact)[0]
    for size in (1, 7, 333):
        assert b"".join(Encoding(10).encode(part)[0].tobytes() for part in exact.split(size)) == whole.tobytes()


@pytest.mark.fault("logits that a small type loses")
def test_a_dtype_that_changes_the_distributions_is_refused() -> None:
    """Two classes 3 apart, beside one so far below that float16 steps by 32 where the two lie."""
    exact = torch.zeros(5, 3)
    exact[:, 1], exact[:, 2] = 3.0, -150_000.0
    with pytest.raises(UserError, match="a type that holds the teacher's logits"):
        Encoding(3).encode(exact)
    assert Encoding(3, "float32").encode(exact)[1] == 0


@pytest.mark.parametrize(("classes", "k", "size"), [(1000, 10, 48), (1000, 100, 408), (21_841, 100, 408)])
def test_a_truncated_row_has_8_plus_4k_bytes(classes: int, k: int, size: int) -> None:
    assert Encoding(classes, "float16", k).bytes_per_row == size


def test_class_numbers_above_65535_take_four_bytes() -> None:
    exact = logits(3, 70_000)
    encoding = Encoding(70_000, "float32", 2)
    exact[:, 69_999] = 100.0
    assert encoding.encode(exact)[0]["ids"][:, 0].tolist() == [69_999] * 3
    assert Encoding(1 << 16, "float32", 2).row["ids"].base == np.dtype("<u2")


@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 2**31), st.floats(0.1, 20))
def test_truncation_keeps_the_mass_of_every_kept_class_and_of_the_tail(
    classes: int, k: int, seed: int, scale: float
) -> None:
    k = min(k, classes)
    exact = logits(7, classes, seed, scale)
    encoding = Encoding(classes, "float32", k)
    decoded = encoding.decode(encoding.encode(exact)[0])
    assert np.allclose(decoded.numpy(), [slow_decoding(row, k) for row in exact], atol=1e-4 * scale)
    p, q = exact.double().softmax(1), decoded.double().softmax(1)
    kept = exact.topk(k, dim=1).indices
    assert torch.allclose(q.gather(1, kept), p.gather(1, kept), atol=1e-6)
    assert torch.allclose(q.sum(1), torch.ones(7, dtype=torch.float64))


@given(st.integers(0, 2**31), st.sampled_from(["float16", "float32"]))
def test_no_missing_class_is_given_more_than_a_kept_one(seed: int, dtype) -> None:
    # Equal logits, whose mean rounding may lift above the smallest kept.
    exact = logits(20, 12, seed).round(decimals=1).mul(0.01)
    encoding = Encoding(12, dtype, 4)
    rows, _ = encoding.encode(exact)
    decoded = encoding.decode(rows)
    ids = torch.from_numpy(rows["ids"].astype(np.int64))
    smallest = decoded.gather(1, ids).amin(1)
    missing = torch.ones_like(decoded, dtype=torch.bool).scatter(1, ids, False)
    assert (decoded.masked_fill(~missing, -math.inf).amax(1) <= smallest).all()


def test_keeping_all_classes_loses_nothing() -> None:
    exact = logits(9, 6)
    encoding = Encoding(6, "float32", 6)
    rows, _ = encoding.encode(exact)
    assert torch.equal(encoding.decode(rows), exact)
    assert (rows["tail"] == -np.inf).all()


def test_the_error_grows_with_temperature_and_shrinks_with_k() -> None:
    exact = logits(200, 100)

    def errors(k: int) -> dict[str, float]:
        encoding = Encoding(100, "float32", k)
        return distribution_errors(exact, encoding.decode(encoding.encode(exact)[0]))

    few, many = errors(3), errors(30)
    assert all(many[name] < few[name] for name in few)
    assert few["tv_T1"] < few["tv_T4"]
    assert max(errors(100).values()) < 1e-6


def test_the_distance_is_half_the_sum_of_differences() -> None:
    p, q = torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.5, 0.25, 0.25]])
    found = distribution_errors(p.log(), q.log(), (1.0,))
    assert found == pytest.approx({"tv_T1": 0.2, "tv_max_T1": 0.2}, abs=1e-7)


@pytest.mark.fault("logits that a small type loses")
@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e5])
def test_what_does_not_fit_is_refused(top_k, bad: float) -> None:
    exact = logits(4, 5)
    exact[2, 3] = bad
    with pytest.raises(UserError, match="dtype = 'float16'"):
        Encoding(5, "float16", top_k).encode(exact)


def test_more_than_all_classes_is_refused() -> None:
    with pytest.raises(UserError, match="top_k = 11: expected at most the 10 classes"):
        Encoding(10, "float16", 11)
