import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from distill.config import AugmentConfig
from distill.data.views.mixing import MixParameters, mix, mix_labels, mix_parameters, thresholds

MIXUP, CUTMIX, BOTH = AugmentConfig(mixup=0.4), AugmentConfig(cutmix=1.0), AugmentConfig(mixup=1.0, cutmix=0.7)
PROGRAMS = [MIXUP, CUTMIX, BOTH]


def parameters_of(augment: AugmentConfig, count: int = 2000, height: int = 9, width: int = 12) -> MixParameters:
    return mix_parameters(3, torch.arange(count), 5, augment, count, height, width)


def draw(n: int, height: int = 9, width: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("a", [0.05, 0.2, 0.5, 1.0, 2.0, 30.0])
def test_table_is_the_quantile_function_of_beta(a):
    """w = round(256 q(u)), where q is scipy's own inverse, found by another method."""
    table = thresholds(a)
    assert len(table) == 256
    assert (np.diff(table) >= 0).all()
    uniform = (np.arange(2000) + 0.5) / 2000
    w = np.searchsorted(table, np.rint(uniform * 2**32).astype(np.int64), side="right")
    quantile = stats.beta(a, a).ppf(uniform) * 256
    assert np.abs(w - quantile).max() <= 0.5 + 1e-4
    # Symmetric, as Beta(a, a) is.
    assert np.abs(table + table[::-1] - 2**32).max() <= 1


@pytest.mark.parametrize("a", [0.2, 1.0])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_shares_are_beta_distributed(name, a):
    mixture = parameters_of(AugmentConfig(**{name: a}), 20_000, 256, 256)
    if name == "mixup":
        assert mixture.w is not None
        edges = (np.arange(-1, 257) + 0.5).clip(0, 256) / 256
        expected = np.diff(stats.beta(a, a).cdf(edges)) * 20_000
        assert stats.chisquare(torch.bincount(mixture.w, minlength=257).numpy(), expected).pvalue > 1e-4
    else:
        assert mixture.box is not None
        top, left, bottom, right = mixture.box.unbind(1)
        # Boxes that the border clips are smaller than drawn; the rest have the area that was drawn, in even sides.
        inside = (top > 0) & (left > 0) & (bottom < 256) & (right < 256)
        assert inside.sum() > 1000
        sides = (bottom - top)[inside]
        assert torch.equal(sides, (right - left)[inside])
        expected = {2 * (math.floor(256 * math.sqrt(1 - w / 256)) // 2) for w in range(257)}
        assert set(sides.tolist()) <= expected


def test_partners_are_uniform_and_independent_of_the_share():
    n = 50
    mixture = mix_parameters(3, torch.arange(50_000), 1, MIXUP, n, 9, 12)
    counts = torch.bincount(mixture.partner, minlength=n)
    assert len(counts) == n
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    assert abs(np.corrcoef(mixture.partner.numpy(), mixture.weight.numpy())[0, 1]) < 4 / math.sqrt(50_000)


def test_a_fair_coin_chooses():
    mixture = parameters_of(BOTH, 20_000, 64, 64)
    assert mixture.w is not None
    assert mixture.box is not None
    cut = (mixture.box[:, 2:] > mixture.box[:, :2]).all(1)
    assert not (cut & (mixture.w < 256)).any()
    # What looks like neither was an empty box or a share of 1, both rare.
    assert abs(cut.double().mean() - 0.5).item() < 0.03
    assert abs((mixture.w < 256).double().mean() - 0.5).item() < 0.03


@pytest.mark.parametrize("augment", PROGRAMS, ids=str)
@given(st.permutations(range(40)), st.integers(1, 40), st.integers(0, 2**62), st.integers(0, 10**6))
@settings(max_examples=20)
def test_parameters_ignore_batch_and_order(augment, order, batch, seed, view):
    index = torch.tensor(order)
    whole = mix_parameters(seed, torch.arange(40), view, augment, 40, 9, 12)
    parts = [mix_parameters(seed, part, view, augment, 40, 9, 12) for part in index.split(batch)]
    each = mix_parameters(seed, index, torch.full((40,), view), augment, 40, 9, 12)
    for field, values in enumerate(whole):
        if values is None:
            assert all(part[field] is None for part in parts)
            continue
        assert torch.equal(torch.cat([part[field] for part in parts]), values[index])
        assert torch.equal(each[field], values[index])


@pytest.mark.parametrize("augment", PROGRAMS, ids=str)
def test_mixed_pixels_are_those_of_the_oracle(augment):
    """Pixel by pixel in float64, as Zhang and Yun write them; exact for uint8."""
    count, height, width = 60, 9, 12
    mixture = parameters_of(augment, count, height, width)
    own, other = draw(count), draw(count, seed=1)
    mixed = mix(own, other, mixture)
    assert mixed.dtype == torch.float32
    for i in range(count):
        share = 1.0 if mixture.w is None else mixture.w[i].item() / 256
        expected = share * own[i].double() + (1 - share) * other[i].double()
        if mixture.box is not None:
            top, left, bottom, right = mixture.box[i].tolist()
            expected[:, top:bottom, left:right] = other[i, :, top:bottom, left:right].double()
        assert torch.equal(mixed[i].double(), expected)
    close = mix(own.float() + 0.3, other.float() * 0.999, mixture)
    assert (close - mixed).abs().max() < 0.6


@pytest.mark.parametrize("augment", [CUTMIX, BOTH], ids=str)
@pytest.mark.parametrize(("height", "width"), [(9, 12), (1, 1), (32, 32), (7, 300)])
def test_the_share_is_the_area_that_is_left(augment, height, width):
    mixture = parameters_of(augment, 3000, height, width)
    own, other = torch.ones(3000, 1, height, width), torch.zeros(3000, 1, height, width)
    area = mix(own, other, mixture).sum((1, 2, 3)).double()
    if augment.mixup:
        assert mixture.w is not None
        cut = mixture.w == 256
        assert torch.equal(area[cut].float() / (height * width), mixture.weight[cut])
        torch.testing.assert_close(area / (height * width), mixture.weight.double(), rtol=1e-6, atol=1e-6)
    else:
        # The float nearest to the exact quotient.
        assert torch.equal((area / (height * width)).float(), mixture.weight)
        assert mixture.box is not None
        assert ((mixture.box >= 0) & (mixture.box <= torch.tensor([height, width, height, width]))).all()


def test_a_share_of_one_is_the_own_view():
    own, other = draw(3), draw(3, seed=1)
    full, empty = torch.full((3,), 256), torch.tensor([[0, 0, 0, 0], [4, 4, 4, 9], [9, 12, 9, 12]])
    for dtype in (torch.uint8, torch.float32):
        mixture = MixParameters(torch.arange(3), torch.ones(3), full, empty)
        assert torch.equal(mix(own.to(dtype), other.to(dtype), mixture), own.float())
        assert torch.equal(mix(own.to(dtype), other.to(dtype), mixture._replace(w=full * 0)), other.float())


def test_labels_are_shares_of_classes():
    shares = mix_labels(torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0]), torch.tensor([0.25, 0.1, 1.0]), 4)
    assert torch.equal(shares, torch.tensor([[0.25, 0, 0.75, 0], [0, 1, 0, 0], [0, 0, 1, 0]]))


def test_no_mixing_is_refused():
    with pytest.raises(ValueError, match="neither mixup nor cutmix"):
        parameters_of(AugmentConfig(pad=2))


@pytest.mark.gpu
@pytest.mark.parametrize("augment", PROGRAMS, ids=str)
@pytest.mark.parametrize("floats", [False, True])
def test_gpu_agrees_with_cpu(augment, floats):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    index, own, other = torch.arange(4000), draw(4000), draw(4000, seed=1)
    if floats:
        own, other = own / 3.1, other / 7.7
    here, there = (mix_parameters(3, i, 5, augment, 4000, 9, 12) for i in (index, index.cuda()))
    for one, two in zip(here, there, strict=True):
        assert one is two is None or torch.equal(one, two.cpu())
    assert torch.equal(mix(own, other, here), mix(own.cuda(), other.cuda(), there).cpu())
