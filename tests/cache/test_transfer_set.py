from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from distill.cache import CachedDataset, LogitCache
from distill.cache.transfer_set import Sample
from distill.config import AugmentConfig, CacheConfig, DataConfig, ModelConfig, ScheduleConfig, TeacherConfig
from distill.data.loader import Loader
from distill.data.sets import load as load_module
from distill.data.views.views import Views
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_network
from tests.made import make
from tests.memory import forget_data_sets, forget_names

pytestmark = [
    # Python 3.12 warns of any fork beside threads, which is how torch starts its workers on Linux.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
VIEWS = 3
TEACHER = TeacherConfig(
    data=DataConfig(held_out=0.15),
    model=ModelConfig(name="mlp", kwargs={"widths": [32]}),
    schedule=ScheduleConfig(epochs=2, batch_size=64),
)
SHIFTED = CacheConfig(teacher=TEACHER, transfer_set=TEACHER.data, augment=AugmentConfig(pad=1), views=VIEWS)
MIXED = SHIFTED.replace(augment=AugmentConfig(pad=1, mixup=1.0, cutmix=1.0), views=2)
BY_PROGRAM = CacheConfig(
    teacher=TEACHER,
    transfer_set=TEACHER.data.replace(held_out=0.9),
    augment=AugmentConfig(program="torchvision.transforms.v2:RandomResizedCrop", kwargs={"size": 8}),
    views=2,
)
TRUNCATED = SHIFTED.replace(top_k=4, views=1)


def made(config: CacheConfig | TeacherConfig, folder: Path) -> Artifact:
    runtime = Runtime(
        store=folder / "store", data_root=folder / "data", device="cpu", progress=False, min_teacher_accuracy=0
    )
    return make(config, ArtifactStore(runtime.store), runtime)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


def opened(config: CacheConfig, folder: Path) -> CachedDataset:
    return CachedDataset(LogitCache.open(made(config, folder).path), folder / "data")


@pytest.fixture(scope="module")
def shifted(folder: Path) -> CachedDataset:
    return opened(SHIFTED, folder)


@pytest.fixture(scope="module")
def mixed(folder: Path) -> CachedDataset:
    return opened(MIXED, folder)


@pytest.fixture(autouse=True)
def first_epoch(shifted: CachedDataset) -> None:
    shifted.set_epoch(0)


def loader_of(dataset: CachedDataset) -> Loader:
    data = load_module.load(dataset.cache.config.transfer_set, Path("unused"))
    return Loader(dataset.cache.views_of(data), 50, seed=None)


def whole(batches: Iterator[Sample] | DataLoader[Sample]) -> Sample:
    """Join all samples of an epoch, sorted by index."""
    joined = Sample(*map(torch.cat, zip(*batches, strict=True)))
    order = joined.index.argsort()
    return Sample(*(field[order] for field in joined))


def equal(a: Sample, b: Sample) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("config", [SHIFTED, MIXED], ids=["shifted", "mixed"])
def test_items_are_the_batches_of_our_own_loader(config: CacheConfig, folder: Path) -> None:
    dataset = opened(config, folder)
    for epoch in range(config.views + 1):
        dataset.set_epoch(epoch)
        for batch in loader_of(dataset).batches(torch.arange(len(dataset)), epoch % config.views):
            items = dataset.__getitems__(batch.index.tolist())
            assert torch.equal(torch.stack([item.image for item in items]), batch.images)
            labels = [torch.as_tensor(item.label) for item in items]
            assert torch.equal(torch.stack(labels), batch.labels)
            assert [item.index for item in items] == batch.index.tolist()


@pytest.mark.parametrize("config", [SHIFTED, MIXED], ids=["shifted", "mixed"])
def test_the_logits_are_the_teachers_answer_to_the_very_image(config: CacheConfig, folder: Path) -> None:
    dataset = opened(config, folder)
    network = load_network(made(TEACHER, folder))
    for epoch in range(config.views):
        dataset.set_epoch(epoch)
        batch = next(iter(DataLoader(dataset, 256, shuffle=True)))
        with torch.no_grad():
            answers = network(batch.image)
        torch.testing.assert_close(batch.teacher, answers, rtol=2**-10, atol=1e-4)  # what float16 rounds


@given(st.lists(st.integers(-100, 99), max_size=8), st.integers(0, 7))
def test_an_item_depends_on_index_and_epoch_alone(shifted: CachedDataset, indices: list[int], epoch: int) -> None:
    shifted.set_epoch(epoch)
    together = shifted.__getitems__(indices)
    for index, item in zip(indices, together, strict=True):
        alone = shifted[index]
        assert torch.equal(item.image, alone.image)
        assert torch.equal(item.teacher, alone.teacher)
        assert item.label == alone.label
        assert item.index == alone.index == index % len(shifted)
        assert torch.equal(item.teacher, shifted.cache.logits(torch.tensor([item.index]), epoch)[0].float())


def test_indices_are_those_of_a_sequence(shifted: CachedDataset) -> None:
    assert shifted[-1].index == len(shifted) - 1
    for outside in (len(shifted), -len(shifted) - 1):
        with pytest.raises(IndexError):
            shifted[outside]


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 7), (2, 64), (2, 300)])
def test_workers_and_batch_size_change_nothing(shifted: CachedDataset, workers: int, batch_size: int) -> None:
    shifted.set_epoch(1)
    reference = next(iter(DataLoader(shifted, len(shifted))))
    loader = DataLoader(shifted, batch_size, shuffle=True, num_workers=workers)
    assert type(reference) is Sample
    assert equal(whole(loader), reference)


def test_views_by_a_program(folder: Path) -> None:
    dataset = opened(BY_PROGRAM, folder)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        reference = next(iter(DataLoader(dataset, len(dataset))))
        assert equal(whole(DataLoader(dataset, 16, shuffle=True, num_workers=1)), reference)
        batches = list(dataset.batches(32, epoch, shuffle=False, drop_last=False, workers=1))
        assert torch.equal(torch.cat([batch.images for batch in batches]), reference.image)
        assert torch.equal(torch.cat([batch.teacher for batch in batches]), reference.teacher)
    assert not torch.equal(dataset[0].image, opened(BY_PROGRAM, folder)[0].image)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_new_epoch_reaches_workers_that_live_on(shifted: CachedDataset, start: str) -> None:
    part = Subset(shifted, range(0, 600, 6))
    loader = DataLoader(
        part, 20, shuffle=True, num_workers=1, persistent_workers=True, multiprocessing_context=start
    )
    seen = []
    for epoch in (0, 1, 2, 3, 7):
        shifted.set_epoch(epoch)
        got = whole(loader)
        assert equal(got, next(iter(DataLoader(part, len(part)))))
        seen.append(got)
    assert not any(torch.equal(seen[a].image, seen[b].image) for a, b in ((0, 1), (1, 2), (0, 2)))
    assert equal(seen[3], seen[0])  # epoch 3 shows view 0 again, and epoch 7 view 1
    assert equal(seen[4], seen[1])


def test_an_epoch_that_is_left_early_does_not_leak_into_the_next(shifted: CachedDataset) -> None:
    loader = DataLoader(shifted, 32, num_workers=1, persistent_workers=True)
    next(iter(loader))
    shifted.set_epoch(1)
    assert equal(whole(loader), next(iter(DataLoader(shifted, len(shifted)))))


def test_a_pickle_holds_paths_and_not_contents(shifted: CachedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_names(monkeypatch)  # other tests of this process name many plug-ins
    shifted.set_epoch(2)
    text = pickle.dumps(shifted)
    assert len(text) < 2000
    copy = pickle.loads(text)
    assert copy.epoch == 2
    assert torch.equal(copy[5].image, shifted[5].image)
    assert torch.equal(copy[5].teacher, shifted[5].teacher)
    copy.set_epoch(0)
    assert shifted.epoch == 2
    assert len(pickle.dumps(shifted.held_out)) < 2000


def test_mixed_views_have_shares_of_classes(mixed: CachedDataset) -> None:
    batch = next(iter(DataLoader(mixed, 512)))
    assert batch.label.shape == (512, len(mixed.classes))
    torch.testing.assert_close(batch.label.sum(1), torch.ones(512))
    assert ((batch.label > 0).sum(1) == 2).any()
    assert F.cross_entropy(batch.teacher, batch.label).isfinite()


def test_a_truncated_cache_gives_a_logit_for_every_class(folder: Path) -> None:
    truncated, dense = opened(TRUNCATED, folder), opened(SHIFTED, folder)
    for index in (0, 17, 400):
        found, exact = truncated[index].teacher, dense[index].teacher
        assert found.dtype == torch.float32
        assert found.shape == exact.shape
        kept = exact.topk(4).indices
        assert torch.equal(found[kept], exact[kept])
        torch.testing.assert_close(found.logsumexp(0), exact.logsumexp(0), rtol=1e-3, atol=1e-3)


def test_a_subset_leaves_out_a_class(shifted: CachedDataset) -> None:
    labels = next(iter(DataLoader(shifted, len(shifted)))).label
    loader = DataLoader(Subset(shifted, (labels != 3).nonzero().squeeze(1).tolist()), 100)
    assert sum(len(batch.index) for batch in loader) == int((labels != 3).sum())
    assert all(bool((batch.label != 3).all()) for batch in loader)


def test_whole_batches_are_those_of_a_student_of_ours(shifted: CachedDataset) -> None:
    data = load_module.load(TEACHER.data, Path("unused"))
    config = shifted.cache.config
    student = Loader(Views.of_training(data, config.augment, config.view_seed), 64, seed=5, cycle=VIEWS)
    for epoch in (0, 4):
        ours = list(shifted.batches(64, epoch, seed=5))
        for batch, expected in zip(ours, student.epoch(epoch), strict=True):
            assert torch.equal(batch.index, expected.index)
            assert torch.equal(batch.images, expected.images)
            assert torch.equal(batch.labels, expected.labels)
            assert torch.equal(batch.teacher, shifted.cache.logits(batch.index, epoch % VIEWS).float())


def test_whole_batches_in_the_order_of_the_transfer_set(shifted: CachedDataset) -> None:
    batches = list(shifted.batches(500, 1, shuffle=False, drop_last=False))
    shifted.set_epoch(1)
    reference = next(iter(DataLoader(shifted, len(shifted))))
    assert [len(batch.index) for batch in batches] == [500, 500, len(shifted) - 1000]
    assert torch.equal(torch.cat([batch.images for batch in batches]), reference.image)
    assert torch.equal(torch.cat([batch.teacher for batch in batches]), reference.teacher)
    assert [len(batch.index) for batch in shifted.batches(500, 0)] == [500, 500]
    assert [len(batch.index) for batch in shifted.batches(5000, 0)] == [len(shifted)]


def test_held_out_images_are_normalised_and_not_augmented(shifted: CachedDataset) -> None:
    data = load_module.load(TEACHER.data, Path("unused"))
    shifted.set_epoch(1)
    batch = next(iter(DataLoader(shifted.held_out, len(shifted.held_out))))
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (shifted.data.mean, shifted.data.std))
    torch.testing.assert_close(batch.image, (data.held_out.images / 255 - mean) / std)
    assert torch.equal(batch.label, data.held_out.labels)
    assert shifted.classes == tuple("0123456789")
    assert shifted.shape == (1, 8, 8)


PLUGIN = """
import torch

CHANGE = None


def make():
    images = torch.randint(0, 256, (90, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels, names = torch.arange(90) % 3, ["a", "b", "c"]
    if CHANGE == "label":
        labels = labels.roll(1)
    if CHANGE == "pixel":
        images[7, 0, 0, 0] ^= 1
    if CHANGE == "order":
        images, labels = images.flip(0), labels.flip(0)
    if CHANGE == "classes":
        names = ["b", "a", "c"]
    if CHANGE == "count":
        images, labels = images[:60], labels[:60]
    return images, labels, images[:9], labels[:9], names
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "changing_images.py").write_text(PLUGIN)
    sys.path.insert(0, str(folder))
    import changing_images  # pyright: ignore[reportMissingImports]

    yield changing_images
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def of_plugin(plugin: ModuleType, folder: Path) -> Artifact:
    data = DataConfig(name=plugin.make, held_out=0)
    teacher = TEACHER.replace(data=data, schedule=ScheduleConfig(epochs=1, batch_size=30))
    return made(CacheConfig(teacher=teacher, transfer_set=data), folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("label", "data.content"),
        ("pixel", "data.content"),
        ("order", "data.order"),
        ("classes", "data.classes"),
        ("count", "data"),
    ],
)
def test_other_images_are_refused(
    plugin: ModuleType,
    of_plugin: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    field: str,
) -> None:
    cache = LogitCache.open(of_plugin.path)
    assert len(CachedDataset(cache, tmp_path / "same")) == 90
    monkeypatch.setattr(plugin, "CHANGE", change)
    with pytest.raises(UserError) as told:
        CachedDataset(cache, tmp_path / "changed")  # images are loaded once per process and data root
    assert told.value.field == field
    assert "distill cache --teacher" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_worker_that_opens_the_images_anew_checks_them_too(
    plugin: ModuleType, of_plugin: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pickle.dumps(CachedDataset(LogitCache.open(of_plugin.path), tmp_path))
    monkeypatch.setattr(plugin, "CHANGE", "pixel")
    forget_data_sets()
    with pytest.raises(UserError, match=r"data\.content"):
        pickle.loads(text)[0]


def test_no_held_out_images(of_plugin: Artifact, tmp_path: Path) -> None:
    forget_data_sets()
    dataset = CachedDataset(LogitCache.open(of_plugin.path), tmp_path)
    assert len(dataset.held_out) == 0
    assert list(DataLoader(dataset.held_out, 10)) == []
