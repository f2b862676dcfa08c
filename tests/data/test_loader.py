import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import AugmentConfig
from distill.data import loader as loader_module
from distill.data.datasets import Split
from distill.data.loader import Batch, Loader, Normaliser
from distill.data.views import render, view_parameters

MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)
AUGMENTS = [AugmentConfig(), AugmentConfig(pad=2), AugmentConfig(flip=True), AugmentConfig(pad=4, flip=True)]


def make_split(n: int = 103, height: int = 8, width: int = 9) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 10, (n,), generator=generator))


def make_loader(split: Split, augment: AugmentConfig, **kwargs) -> Loader:
    return Loader(split, MEAN, STD, augment, **{"seed": 1, "batch_size": 16, **kwargs})


def reference(split: Split, index: torch.Tensor, view: int, augment: AugmentConfig, seed: int = 1) -> torch.Tensor:
    pixels = render(split.images[index], view_parameters(seed, index, view, augment), augment.pad)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
    return (pixels.float() - (mean * 255).float()) * (1 / (std * 255)).float()


def by_index(batches: list[Batch]) -> dict[int, torch.Tensor]:
    pairs = ((batch.index.tolist(), batch.images) for batch in batches)
    return {index: image for indices, images in pairs for index, image in zip(indices, images, strict=True)}


def same(one: Batch, other: Batch) -> bool:
    fields = ("images", "labels", "index")
    return one.view == other.view and all(torch.equal(getattr(one, f), getattr(other, f)) for f in fields)


@pytest.fixture(params=["whole", "by chunk", "float"])
def memory(request, monkeypatch):
    """The three ways in which a set is kept, chosen by its size."""
    monkeypatch.setattr(loader_module, "CHUNK_BYTES", 40_000)
    monkeypatch.setattr(loader_module, "NORMALISED_BYTES", 1 << 30 if request.param == "float" else 0)
    monkeypatch.setattr(loader_module, "RESIDENT_BYTES", -1 if request.param == "by chunk" else 1 << 30)


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_fast_path_equals_the_reference_bit_for_bit(memory, augment, channels_last):
    split = make_split()
    for batch in make_loader(split, augment, channels_last=channels_last).epoch(3):
        assert torch.equal(batch.images, reference(split, batch.index, 3, augment))
        assert torch.equal(batch.labels, split.labels[batch.index])
        assert batch.images.dtype == torch.float32
        layout = torch.channels_last if channels_last else torch.contiguous_format
        assert batch.images.is_contiguous(memory_format=layout)


@given(
    n=st.integers(1, 60),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    pad=st.integers(0, 9),
    flip=st.booleans(),
    view=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_any_shape_and_pad_equals_the_reference(n, height, width, pad, flip, view):
    split, augment = make_split(n, height, width), AugmentConfig(pad=pad, flip=flip)
    index = torch.arange(n).flip(0)
    images = make_loader(split, augment).render_views(index, view)
    assert torch.equal(images, reference(split, index, view, augment))


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_pixels_ignore_batch_size_order_and_subset(augment):
    split, subset = make_split(), torch.tensor([5, 1, 99, 42, 7])
    whole = by_index(list(make_loader(split, augment, drop_last=False).epoch(4)))
    assert sorted(whole) == list(range(len(split)))
    for kwargs in ({"batch_size": 7}, {"shuffle": False}, {"subset": subset}, {"seed": 8, "view_seed": 1}):
        part = by_index(list(make_loader(split, augment, drop_last=False, **kwargs).epoch(4)))
        assert all(torch.equal(image, whole[index]) for index, image in part.items())
    assert sorted(part) == sorted(whole)


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_an_epoch_resumes_at_any_batch(memory, augment):
    loader = make_loader(make_split(), augment, drop_last=False)
    whole = list(loader.epoch(2))
    for start in range(len(loader) + 2):
        rest = list(loader.epoch(2, start))
        assert len(rest) == max(0, len(loader) - start)
        assert all(same(one, other) for one, other in zip(rest, whole[start:], strict=True))


def test_batches_stay_valid(memory):
    loader = make_loader(make_split(), AUGMENTS[-1])
    kept = list(loader.epoch(0))
    copies = [batch.images.clone() for batch in kept]
    list(loader.epoch(1))
    assert all(torch.equal(batch.images, copy) for batch, copy in zip(kept, copies, strict=True))


@pytest.mark.parametrize(("n", "drop_last", "sizes"), [
    (40, True, [16, 16]), (40, False, [16, 16, 8]), (9, True, [9]), (32, True, [16, 16]), (0, True, []),
])  # fmt: skip
def test_last_batch(n, drop_last, sizes):
    loader = make_loader(make_split(n), AUGMENTS[-1], drop_last=drop_last)
    assert len(loader) == len(sizes)
    assert [len(batch.index) for batch in loader.epoch(0)] == sizes


def test_order_changes_by_epoch_and_views_repeat():
    loader = make_loader(make_split(), AUGMENTS[-1], views=2)
    epochs = [list(loader.epoch(epoch)) for epoch in range(4)]
    assert [batches[0].view for batches in epochs] == [0, 1, 0, 1]
    assert not torch.equal(epochs[0][0].index, epochs[2][0].index)
    first, third = by_index(epochs[0]), by_index(epochs[2])
    common = first.keys() & third.keys()
    assert all(torch.equal(first[index], third[index]) for index in common)
    assert make_loader(make_split(), AUGMENTS[-1]).epoch(5).__next__().view == 5


def test_no_shuffle_keeps_the_order():
    loader = make_loader(make_split(), AUGMENTS[0], shuffle=False, drop_last=False)
    assert torch.cat([batch.index for batch in loader.epoch(7)]).tolist() == list(range(103))
    subset = torch.tensor([3, 1, 2])
    loader = make_loader(make_split(), AUGMENTS[0], shuffle=False, subset=subset)
    assert next(loader.epoch(0)).index.tolist() == [3, 1, 2]


def test_subset_outside_the_split_is_refused():
    with pytest.raises(ValueError, match=r"outside 0\.\.102"):
        make_loader(make_split(), AUGMENTS[0], subset=torch.tensor([103]))


def test_normalised_to_mean_and_std():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    found = Normaliser(MEAN, STD)(images).view(2, 3)
    expected = (torch.tensor([[0.0], [1.0]]) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_gpu_batches_equal_cpu_batches(memory, augment):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    here, there = (make_loader(make_split(), augment, device=device) for device in ("cpu", "cuda"))
    for one, other in zip(here.epoch(1), there.epoch(1), strict=True):
        moved = Batch(other.images.cpu(), other.labels.cpu(), other.index.cpu(), other.view)
        assert same(one, moved)
