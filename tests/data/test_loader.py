from multiprocessing import active_children

import pytest
import torch

from distill.config import AugmentConfig
from distill.data import loader as loader_module
from distill.data.checksum import pixel_checksum
from distill.data.loader import Batch, Loader
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.views.mixing import mix_parameters
from tests.data.views.made import AUGMENTS, MEAN, STD, VIEWS, make_split, make_views, reference


def make_loader(split: Split, augment: AugmentConfig, channels_last: bool = False, device: str = "cpu", **kwargs):
    views = make_views(split, augment, device=device, channels_last=channels_last)
    return Loader(views, **{"batch_size": 16, "seed": 1, **kwargs})


def by_index(batches: list[Batch]) -> dict[int, torch.Tensor]:
    pairs = ((batch.index.tolist(), batch.images) for batch in batches)
    return {index: image for indices, images in pairs for index, image in zip(indices, images, strict=True)}


def same(one: Batch, other: Batch) -> bool:
    fields = ("images", "labels", "index")
    return one.view == other.view and all(torch.equal(getattr(one, f), getattr(other, f)) for f in fields)


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


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_pixels_ignore_batch_size_order_and_subset(augment):
    split, subset = make_split(), torch.tensor([5, 1, 99, 42, 7])
    whole = by_index(list(make_loader(split, augment, drop_last=False).epoch(4)))
    assert sorted(whole) == list(range(len(split)))
    for kwargs in ({"batch_size": 7}, {"seed": None}, {"subset": subset}, {"seed": 8}):
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
    loader = make_loader(make_split(), AUGMENTS[-1], cycle=2)
    epochs = [list(loader.epoch(epoch)) for epoch in range(4)]
    assert [batches[0].view for batches in epochs] == [0, 1, 0, 1]
    assert not torch.equal(epochs[0][0].index, epochs[2][0].index)
    first, third = by_index(epochs[0]), by_index(epochs[2])
    common = first.keys() & third.keys()
    assert all(torch.equal(first[index], third[index]) for index in common)
    assert make_loader(make_split(), AUGMENTS[-1]).epoch(5).__next__().view == 5


def test_no_shuffle_keeps_the_order():
    loader = make_loader(make_split(), AUGMENTS[0], seed=None, drop_last=False)
    assert torch.cat([batch.index for batch in loader.epoch(7)]).tolist() == list(range(103))
    subset = torch.tensor([3, 1, 2])
    loader = make_loader(make_split(), AUGMENTS[0], seed=None, subset=subset)
    assert next(loader.epoch(0)).index.tolist() == [3, 1, 2]


def test_subset_outside_the_split_is_refused():
    with pytest.raises(ValueError, match=r"outside 0\.\.102"):
        make_loader(make_split(), AUGMENTS[0], subset=torch.tensor([103]))


WORKED = [(name, 0) for name in VIEWS] + [(name, 2) for name in VIEWS if "program" in name]


@pytest.mark.parametrize(("name", "workers"), WORKED)
def test_batches_show_the_pixels_of_any_views(memory, name, workers):
    """Pixels and labels are the same one at a time, by any batch size and order, and from workers."""
    split, order = make_split(), torch.randperm(103, generator=torch.Generator().manual_seed(3))
    single = make_views(split, VIEWS[name])
    whole = single.pixels(torch.arange(103), 2)
    for sample in (0, 57, 102):
        assert torch.equal(single.pixels(torch.tensor([sample]), 2), whole[sample : sample + 1])
    for kwargs in ({"batch_size": 7}, {"batch_size": 64, "channels_last": True}):
        loader = make_loader(split, VIEWS[name], workers=workers, **kwargs)
        batches = list(loader.batches(order, 2))
        assert [len(batch.images) for batch in batches] == [len(part) for part in order.split(kwargs["batch_size"])]
        assert torch.equal(torch.cat([batch.index for batch in batches]), order)
        assert torch.equal(torch.cat([batch.images for batch in batches]), Normaliser(MEAN, STD)(whole[order]))
        assert torch.equal(torch.cat([batch.labels for batch in batches]), labels_of(split, order, 2, VIEWS[name]))
        assert {batch.view for batch in batches} == {2}
        # An epoch, and one that goes on in its middle.
        epoch = list(loader.epoch(2))
        assert all(torch.equal(image, Normaliser(MEAN, STD)(whole[[i]])[0]) for i, image in by_index(epoch).items())
        assert all(same(one, other) for one, other in zip(loader.epoch(2, 1), epoch[1:], strict=True))
    del loader
    assert not active_children()


def labels_of(split: Split, index: torch.Tensor, view: int, augment: AugmentConfig) -> torch.Tensor:
    """The oracle: sample by sample."""
    if not augment.mixes:
        return split.labels[index]
    found = mix_parameters(1, index, view, augment, len(split), 8, 9)
    shares = torch.zeros(len(index), 10)
    for row, sample in enumerate(index):
        shares[row, split.labels[sample]] += found.weight[row]
        shares[row, split.labels[found.partner[row]]] += 1 - found.weight[row]
    return shares


def test_what_is_joined_belongs_to_its_batch(memory):
    def join(index, view, size):
        return (100 * index + view).split(size)

    for name in ("crop and flip", "crop, both", "program"):
        loader = make_loader(make_split(), VIEWS[name])
        for batch in loader.batches(torch.arange(103).flip(0), 5, join):
            assert torch.equal(batch.teacher, 100 * batch.index + 5)
    assert list(loader.batches(torch.arange(0), 5, join)) == []


def test_many_classes_make_smaller_chunks(monkeypatch):
    monkeypatch.setattr(loader_module, "CHUNK_BYTES", 40_000)
    chunks = []
    loader = Loader(make_views(make_split(), VIEWS["mixup"], num_classes=500), 16, seed=1)
    list(
        loader.batches(
            torch.arange(103), 0, lambda index, view, size: chunks.append(len(index)) or index.split(size)
        )
    )
    assert max(chunks) == 16


def test_a_program_leaves_the_generator_of_a_run_alone():
    torch.manual_seed(4)
    before = torch.get_rng_state()
    loader = make_loader(make_split(), VIEWS["program, mixup"], workers=1)
    for _ in loader.epoch(0):
        assert torch.equal(torch.get_rng_state(), before)


def test_mixing_wants_all_classes_and_all_samples():
    with pytest.raises(ValueError, match="num_classes = None"):
        make_views(make_split(), VIEWS["mixup"], num_classes=None)
    with pytest.raises(ValueError, match="subset with mixup or cutmix"):
        make_loader(make_split(), VIEWS["crop, cutmix"], subset=torch.arange(5))


@pytest.mark.gpu
@pytest.mark.parametrize("name", VIEWS)
def test_gpu_pixels_equal_cpu_pixels(memory, name):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    workers = 1 if "program" in name else 0
    here, there = (make_loader(make_split(), VIEWS[name], device=d, workers=workers) for d in ("cpu", "cuda"))
    index = torch.arange(103)
    one, other = here.views.pixels(index, 5), there.views.pixels(index, 5)
    assert other.is_cuda
    assert torch.equal(one, other.cpu())
    assert torch.equal(pixel_checksum(one), pixel_checksum(other).cpu())
    for batch, moved in zip(here.epoch(1), there.epoch(1), strict=True):
        assert same(batch, Batch(moved.images.cpu(), moved.labels.cpu(), moved.index.cpu(), moved.view, None))


@pytest.mark.gpu
@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_gpu_batches_equal_cpu_batches(memory, augment):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    here, there = (make_loader(make_split(), augment, device=device) for device in ("cpu", "cuda"))
    for one, other in zip(here.epoch(1), there.epoch(1), strict=True):
        moved = Batch(other.images.cpu(), other.labels.cpu(), other.index.cpu(), other.view, None)
        assert same(one, moved)
