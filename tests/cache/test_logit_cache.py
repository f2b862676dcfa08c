"""Test how a cache is opened: identity, refusals with both values and the command, proof of pixels."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
import torch

from distill.cache import LogitCache
from distill.cache.manifest import Manifest
from distill.cache.remake import remake
from distill.cli.main import main
from distill.cli.stage_flags import parse_config
from distill.config import AugmentConfig, CacheConfig, EnsembleConfig
from distill.data.sets.dataset import Dataset, Split
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics.dark_knowledge import interclass_variance
from distill.store.store import ArtifactStore
from distill.system.libraries import versions
from tests.cache.caches import drew_otherwise, reordered
from tests.made import make


def test_the_manifest_names_weights_preprocessing_images_and_views(opened: LogitCache, store, dataset) -> None:
    manifest = opened.manifest
    (teacher,) = manifest.teachers
    artifact = store.find(opened.config.teacher)
    assert teacher.weights == artifact.record.files["model.safetensors"].sha256
    assert (teacher.mean, teacher.std, teacher.size) == (dataset.mean, dataset.std, dataset.shape)
    assert manifest.data.classes == dataset.classes
    assert manifest.data.samples == len(dataset.train)
    assert manifest.views.augment["pad"] == 1
    assert (manifest.views.views, manifest.views.seed) == (3, 0)
    assert {"torch", "torchvision", "timm", "pillow", "numpy"} <= manifest.libraries.keys()
    assert manifest.declared == ()
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_what_fits_is_let_through(opened: LogitCache, dataset: Dataset) -> None:
    opened.check_fits(dataset)
    opened.check_fits(dataset, views=2)
    # The test set is none of its business.
    other_test = Split(dataset.test.images[:5], dataset.test.labels[:5])
    opened.check_fits(replace(dataset, test=other_test, fingerprint="another"))


def changed(dataset: Dataset) -> dict[str, Dataset]:
    images = dataset.train.images.clone()
    images[7, 0, 3, 3] ^= 1
    labels = dataset.train.labels.clone()
    labels[7] = (labels[7] + 1) % 10
    fewer = Split(dataset.train.images[:-1], dataset.train.labels[:-1])
    return {
        r"data.order = .*\(the same samples in another order\)": reordered(dataset),
        r"data.content = ": replace(dataset, train=Split(images, dataset.train.labels), fingerprint="another"),
        "data.content": replace(dataset, train=Split(dataset.train.images, labels), fingerprint="another"),
        r"data = 'digits with 1221 samples': expected the cache's 1222": replace(dataset, train=fewer),
        r"data.classes = '10 classes \(9, 8.*the cache's 10 classes \(0, 1.*in this order": replace(
            dataset, classes=dataset.classes[::-1]
        ),
        r"data.classes = '2 classes": replace(dataset, classes=("a", "b")),
    }


def test_other_images_classes_or_order_are_refused_with_the_command(opened: LogitCache, dataset) -> None:
    for expected, other in changed(dataset).items():
        with pytest.raises(UserError, match=expected) as refused:
            opened.check_fits(other)
        assert "distill cache --teacher" in str(refused.value)


def test_more_views_are_refused_and_the_command_makes_the_right_cache(opened: LogitCache, dataset: Dataset) -> None:
    with pytest.raises(UserError, match="views = 4: expected at most the cache's 3") as refused:
        opened.check_fits(dataset, views=4)
    command = shlex.split(str(refused.value).partition("distill cache ")[2])
    config, _ = parse_config("cache", command)
    assert config == opened.config.replace(views=4)


@pytest.mark.parametrize("views", [{"augment": {"pad": 2}}, {"views": 2}, {"seed": 9}])
def test_a_manifest_of_other_views_than_the_record_is_refused(opened: LogitCache, views: dict, monkeypatch) -> None:
    manifest = opened.manifest
    other = Manifest.model_validate(manifest.model_dump() | {"views": manifest.views.model_dump() | views})
    monkeypatch.setattr("distill.cache.logit_cache.read_manifest", lambda _: other)
    with pytest.raises(UserError, match=r"manifest\.json = 'other views'.*the record"):
        LogitCache.open(opened.path)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--data.name", "fashion-mnist"], "--transfer-set.name fashion-mnist"),
        (["--augment.flip"], "--augment.flip"),
        (["--views", "9"], "--views 9"),
    ],
)
def test_flags_that_contradict_the_cache_are_refused_with_the_command(
    opened: LogitCache, store: ArtifactStore, flags: list[str], expected: str
) -> None:
    with pytest.raises(UserError, match=f"distill cache --teacher .*{expected}"):
        parse_config("student", ["--cache", str(opened.path), "--store", str(store.root), *flags])


def test_pixels_that_differ_are_found_although_the_images_are_the_same(
    opened: LogitCache, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.data.views.crops.counter_hash", drew_otherwise)
    monkeypatch.setattr("distill.cache.logit_cache.versions", lambda names: {**versions(names), "torch": "9.9"})
    with pytest.raises(UserError, match=r"views = '\d+ of \d+ views with other pixels'.*torch .* → 9.9"):
        opened.check_fits(dataset)


def test_the_command_names_the_mean_the_store_and_what_must_go(teacher, store, runtime, dataset) -> None:
    ensemble = EnsembleConfig(members=(teacher, teacher.replace(seed=1)), mean="logits")
    config = CacheConfig(teacher=ensemble, transfer_set=teacher.data, top_k=2)
    opened = LogitCache(make(config, store, runtime.model_copy(update={"jobs": 1})))
    command = remake(config, opened.path)
    assert command.startswith(f"rm -r {opened.path} && distill cache --teacher ")
    parsed, machine = parse_config("cache", shlex.split(command.partition("distill cache ")[2]))
    assert (parsed, machine.store) == (config, store.root)
    with pytest.raises(UserError, match=r"data.content .*rm -r .* && distill cache"):
        opened.check_fits(changed(dataset)["data.content"])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--teacher", "{0}", "--teacher", "{1}"], "teacher = 'given twice'"),
        (["--teacher", "{0}", "{0}"], "teachers that differ"),
        (["--teacher", "{0}", "--mean", "logits"], "mean = 'logits': expected none with one teacher"),
    ],
)
def test_teachers_are_named_once_and_averaged_only_when_several(
    teacher, store, runtime, flags: list[str], expected: str
) -> None:
    keys = [make(teacher.replace(seed=seed), store, runtime).record.key for seed in (0, 1)]
    with pytest.raises(UserError, match=expected):
        parse_config("cache", [*(word.format(*keys) for word in flags), "--store", str(store.root)])


def test_mixed_views_have_no_inter_class_variance(cache, store, runtime, dataset) -> None:
    mixed = LogitCache(make(cache.replace(augment=AugmentConfig(mixup=1)), store, runtime))
    with pytest.raises(UserError, match="a mixed one has no single correct class"):
        mixed.logits_of_view()


def test_all_classes_are_no_truncation(cache, store, runtime, dataset) -> None:
    everything = LogitCache(make(cache.replace(top_k=10), store, runtime))
    assert interclass_variance(everything.logits_of_view(), dataset.train.labels).total > 0


def test_truncated_logits_are_dense_again_and_their_variance_is_refused(cache, store, runtime, dataset) -> None:
    dense = LogitCache.open(make(cache.replace(dtype="float32"), store, runtime).path)
    made = make(cache.replace(dtype="float32", top_k=3), store, runtime)
    top = LogitCache.open(made.path)
    index = torch.arange(50)
    exact, found = dense.logits(index), top.logits(index)
    kept = exact.topk(3).indices
    assert torch.equal(found.gather(1, kept), exact.gather(1, kept))
    torch.testing.assert_close(found.logsumexp(1), exact.logsumexp(1))
    assert made.record.metrics["tv_T4"] > 10 * store.find(cache.replace(dtype="float32")).record.metrics["tv_T4"]
    assert torch.equal(dense.logits_of_view(), dense.logits(torch.arange(len(dense))))
    with pytest.raises(UserError, match=r"top_k = 3: expected a cache of all logits.*distill cache --teacher"):
        top.logits_of_view()


def test_a_cache_larger_than_its_limit_stays_on_disk(opened: LogitCache, monkeypatch) -> None:
    monkeypatch.setattr("distill.cache.logit_cache.RESIDENT_BYTES", 0)
    mapped = LogitCache.open(opened.path)
    index = torch.randperm(len(opened))[:200]
    for view in range(4):
        assert torch.equal(mapped.logits(index, view), opened.logits(index, view))


@pytest.mark.parametrize("name", ["logits", "manifest.json", "proof.safetensors"])
def test_a_changed_file_is_found_when_it_is_read(opened: LogitCache, dataset, name: str) -> None:
    path = opened.path / name
    path = next(path.iterdir()) if path.is_dir() else path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    def read() -> None:
        again = LogitCache.open(opened.path)
        again.check_fits(dataset)
        for view in range(3):
            again.logits(torch.arange(3), view)

    with pytest.raises(UserError, match="sha256 differs"):
        read()


def test_swapped_shards_are_found(opened: LogitCache) -> None:
    first, second, _ = sorted((opened.path / "logits").iterdir())
    spare = first.with_suffix(".spare")
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    with pytest.raises(UserError, match="sha256 differs"):
        LogitCache.open(opened.path).logits(torch.arange(3))


def test_evaluate_measures_the_cached_logits(opened: LogitCache, store, dataset, capsys) -> None:
    main(["evaluate", str(opened.path), "--store", str(store.root)])
    told = dict(line.split() for line in capsys.readouterr().out.splitlines())
    logits = opened.logits(torch.arange(len(opened))).float()
    expected = (logits.argmax(1) == dataset.train.labels).float().mean().item()
    assert float(told["accuracy"]) == pytest.approx(expected, rel=1e-4)
    assert float(told["interclass_variance"]) > 0


def test_a_student_of_fewer_views_reads_those_only(opened: LogitCache, student, store, runtime) -> None:
    schedule = student.schedule.replace(epochs=3)
    config = student.replace(cache=opened.config, views=2, schedule=schedule)
    damaged = sorted((opened.path / "logits").iterdir())[2]
    damaged.write_bytes(b"")
    assert make(config, store, runtime).record.metrics["cache/bytes_per_view"] == 24
    with pytest.raises(UserError, match="0 bytes instead of"):
        make(config.replace(views=None), store, runtime)


def test_a_cache_of_other_images_is_refused(cache, store, runtime) -> None:
    opened = LogitCache.open(make(cache, store, runtime).path)
    other = load(cache.transfer_set.replace(split_seed=1), runtime.data_root)
    with pytest.raises(UserError, match=r"data\.content = .* expected the cache's, .*distill cache --teacher"):
        opened.check_fits(other)
