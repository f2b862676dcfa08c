"""A cache as it is opened: identity, refusals with both values and the command, proof of pixels."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.audit.replay import replay
from distill.cache import LogitCache
from distill.cache.encoding import Encoding
from distill.cache.manifest import MANIFEST, Manifest, pixel_libraries
from distill.cache.proof import choose
from distill.cache.remake import remake
from distill.cache.shards import SHARDS, Layout, Piece, Shard, ShardReader, write_shards
from distill.cache.teacher_logits import TeacherLogits
from distill.cli.flags import parse_config
from distill.cli.main import main
from distill.config import AugmentConfig, CacheConfig, DataConfig, EnsembleConfig, ImportConfig
from distill.data.loader import Normaliser
from distill.data.sets.dataset import Dataset, Split
from distill.data.sets.load import load
from distill.errors import UnfitTeacher, UserError
from distill.metrics.dark_knowledge import interclass_variance
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_network
from distill.training.predict import predict


def make(config, store: ArtifactStore, runtime: Runtime) -> Artifact:
    (made,) = ensure([config], store, runtime).values()
    assert isinstance(made, Artifact)
    return made


@pytest.fixture
def shifted(cache: CacheConfig) -> CacheConfig:
    return cache.replace(views=3, augment=AugmentConfig(pad=1))


@pytest.fixture
def opened(shifted: CacheConfig, store: ArtifactStore, runtime: Runtime) -> LogitCache:
    return LogitCache.open(make(shifted, store, runtime).path)


@pytest.fixture
def dataset(cache: CacheConfig, runtime: Runtime) -> Dataset:
    return load(cache.transfer_set, runtime.data_root)


def reordered(dataset: Dataset) -> Dataset:
    order = torch.arange(len(dataset.train)).flip(0)
    train = Split(dataset.train.images[order], dataset.train.labels[order])
    return replace(dataset, train=train, fingerprint="another")


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
    opened.check_fits(dataset, opened.config.augment, views=2, view_seed=0)
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


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ({"augment": AugmentConfig(pad=2)}, "augment.pad = 2: expected the cache's, 1"),
        ({"augment": AugmentConfig(pad=1, flip=True)}, "augment.flip = True: expected the cache's, False"),
        ({"augment": AugmentConfig(pad=1, mixup=1)}, "augment.mixup = 1.0: expected the cache's, 0.0"),
        ({"views": 4}, "views = 4: expected at most the cache's 3"),
        ({"view_seed": 9}, "view_seed = 9: expected the cache's, 0"),
    ],
)
def test_other_views_are_refused_and_the_command_makes_the_right_cache(
    opened: LogitCache, dataset: Dataset, views, expected: str, store: ArtifactStore
) -> None:
    with pytest.raises(UserError, match=expected) as refused:
        opened.check_fits(dataset, **views)
    command = shlex.split(str(refused.value).partition("distill cache ")[2])
    config, _ = parse_config("cache", command)
    assert isinstance(config, CacheConfig)
    assert config.replace(**views) == config
    assert config.teacher == opened.config.teacher


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
    monkeypatch.setattr("distill.data.views.crops._FIELD", 20)  # as if the program drew its shifts otherwise
    monkeypatch.setattr("distill.cache.logit_cache.libraries_here", lambda: {**pixel_libraries(), "torch": "9.9"})
    with pytest.raises(UserError, match=r"views = '\d+ of \d+ views with other pixels'.*torch .* → 9.9"):
        opened.check_fits(dataset)


@pytest.mark.parametrize("mean", ["probabilities", "logits"])
def test_an_ensemble_is_the_mean_of_its_members(teacher, store, runtime, dataset, mean) -> None:
    members = (teacher, teacher.replace(seed=1))
    config = CacheConfig(
        teacher=EnsembleConfig(members=members, mean=mean), transfer_set=teacher.data, dtype="float32"
    )
    opened = LogitCache.open(make(config, store, runtime).path)
    normalise = Normaliser(dataset.mean, dataset.std)
    answers = [
        predict(load_network(store.find(t)), dataset.train.images, normalise, "cpu").double() for t in members
    ]
    if mean == "probabilities":
        expected = torch.stack([answer.softmax(1) for answer in answers]).mean(0)
    else:
        expected = torch.stack(answers).mean(0).softmax(1)
    found = opened.logits(torch.arange(len(opened))).double().softmax(1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert len(opened.manifest.teachers) == 2
    assert all(finding.ok for finding in replay(store.find(config), store, runtime, 50))


def test_the_command_names_the_mean_the_store_and_what_must_go(teacher, store, runtime, dataset) -> None:
    ensemble = EnsembleConfig(members=(teacher, teacher.replace(seed=1)), mean="logits")
    config = CacheConfig(teacher=ensemble, transfer_set=teacher.data, top_k=2)
    opened = LogitCache(make(config, store, runtime))
    command = remake(config, opened.path)
    assert command.startswith(f"rm -r {opened.path} && distill cache --teacher ")
    parsed, machine = parse_config("cache", shlex.split(command.partition("distill cache ")[2]))
    assert (parsed, machine.store) == (config, store.root)
    with pytest.raises(UserError, match=r"data.content .*rm -r .* && distill cache"):
        opened.check_fits(changed(dataset)["data.content"])


def test_the_command_for_an_import_has_the_flags_of_import() -> None:
    source = ImportConfig(sha256=("a",), values="probabilities", classes=("b", "a"), teacher="a friend's net")
    config = CacheConfig(teacher=source, transfer_set=DataConfig(name="mnist", held_out=0), dtype="float32")
    words = shlex.split(remake(config, Path("checkpoints/caches/x"), ("a", "b"), augment=AugmentConfig(pad=1)))
    assert words[:5] == ["distill", "import", "FILES", "--data.name", "mnist"]
    rest = " ".join(words[5:])
    assert rest == (
        "--data.held-out 0.0 --augment.pad 1 --dtype float32 --values probabilities --classes b a "
        "--teacher a friend's net"
    )


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
        mixed.interclass_variance(dataset.train.labels)


def test_all_classes_are_no_truncation(cache, store, runtime, dataset) -> None:
    everything = LogitCache(make(cache.replace(top_k=10), store, runtime))
    assert everything.interclass_variance(dataset.train.labels).total > 0


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
    labels = dataset.train.labels
    variance = dense.interclass_variance(labels)
    assert variance == interclass_variance(dense.logits(torch.arange(len(dense))), labels)
    with pytest.raises(UserError, match=r"top_k = 3: expected a cache of all logits.*distill cache --teacher"):
        top.interclass_variance(labels)


def test_a_cache_larger_than_its_limit_stays_on_disk(opened: LogitCache, monkeypatch) -> None:
    monkeypatch.setattr("distill.cache.logit_cache._RESIDENT_BYTES", 0)
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


def interrupted(config: CacheConfig, store: ArtifactStore, runtime: Runtime) -> Path:
    """The draft of a cache that was killed before its record was written."""
    whole = make(config, store, runtime)
    with store.draft(config) as draft:
        shutil.copytree(whole.path, draft, dirs_exist_ok=True)
    (draft / "record.json").unlink()
    shutil.rmtree(whole.path)
    return draft


def made_again(config: CacheConfig, store: ArtifactStore, runtime: Runtime, monkeypatch) -> list[int]:
    """Views whose shards are written when the cache is made."""
    asked: list[int] = []
    of_shard = TeacherLogits.of_shard
    with monkeypatch.context() as patch:
        patch.setattr(TeacherLogits, "of_shard", lambda t, s: asked.append(s.view) or of_shard(t, s))
        make(config, store, runtime)
    return asked


def test_an_interrupted_draft_is_taken_up(shifted: CacheConfig, store, runtime, monkeypatch) -> None:
    interrupted(shifted, store, runtime)
    assert made_again(shifted, store, runtime, monkeypatch) == []


def test_rows_of_another_teacher_are_not(shifted: CacheConfig, store, runtime, monkeypatch) -> None:
    draft = interrupted(shifted, store, runtime)
    manifest = json.loads((draft / MANIFEST).read_text())
    manifest["teachers"][0]["weights"] = "0" * 64
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1))
    assert made_again(shifted, store, runtime, monkeypatch) == [0, 1, 2]


def test_nor_are_rows_that_the_teacher_would_not_give_now(
    shifted: CacheConfig, store: ArtifactStore, runtime: Runtime, monkeypatch
) -> None:
    # As when the code of a view program was edited, which no manifest can hold.
    draft = interrupted(shifted, store, runtime)
    shard = next((draft / "logits").glob("view0001*"))
    np.save(shard, np.load(shard) + np.float16(1))
    stamps = json.loads((draft / SHARDS).read_text())
    stamps[f"logits/{shard.name}"]["sha256"] = hashlib.sha256(shard.read_bytes()).hexdigest()
    (draft / SHARDS).write_text(json.dumps(stamps))
    assert made_again(shifted, store, runtime, monkeypatch) == [1]
    assert all(findings(store.find(shifted), store, runtime).values())


def test_a_mistake_in_a_later_call_costs_no_finished_shard(
    shifted: CacheConfig, store: ArtifactStore, runtime: Runtime, monkeypatch
) -> None:
    of_shard = TeacherLogits.of_shard

    def stop(teacher: TeacherLogits, shard: Shard) -> Iterator[Piece]:
        if shard.view == 2:
            raise KeyboardInterrupt
        yield from of_shard(teacher, shard)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherLogits, "of_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            make(shifted, store, runtime)
    with pytest.raises(UnfitTeacher):
        make(shifted, store, runtime.model_copy(update={"min_teacher_accuracy": 1.0}))
    assert made_again(shifted, store, runtime, monkeypatch) == [2]


def test_answers_that_change_from_call_to_call_are_refused(shifted, store, runtime, monkeypatch) -> None:
    answer = TeacherLogits.answer
    monkeypatch.setattr(TeacherLogits, "answer", lambda *arguments: answer(*arguments) + 1)
    with pytest.raises(UserError, match="cache = 'rows that differ by 1 when they are made again'"):
        make(shifted, store, runtime)
    assert store.find(shifted) is None


def test_the_gate_keeps_a_teacher_from_images_that_it_does_not_know(teacher, store, runtime) -> None:
    trained = teacher.replace(schedule=teacher.schedule.replace(epochs=10))
    far = CacheConfig(teacher=trained, transfer_set=teacher.data, augment=AugmentConfig(pad=6))
    careful = runtime.model_copy(update={"min_teacher_accuracy": None})
    told = (
        r"teacher = 'right on .*: expected at least .*as they are: these views are too hard.*--min-teacher-accuracy"
    )
    with pytest.raises(UnfitTeacher, match=told):
        ensure([far], store, careful)
    made = ensure([far], store, careful, tolerate_divergence=True)
    assert "right on" in str(*made.values())
    assert make(far, store, runtime).record.metrics["gate/accuracy"] < 0.5


def test_a_disk_that_is_too_small_is_refused_before_the_first_row(cache, store, runtime, monkeypatch) -> None:
    monkeypatch.setattr("distill.cache.writing.free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"store = '1e-06 GB free': expected 2.44e-05 GB for 1 view"):
        make(cache, store, runtime)


def refuse(*_: object) -> None:
    raise UserError("data", "gone", "images", "Fetch them.")


def findings(artifact: Artifact, store: ArtifactStore, runtime: Runtime) -> dict[str, bool | None]:
    return {finding.what: finding.ok for finding in replay(artifact, store, runtime, 40)}


def test_replay_makes_pixels_and_logits_again(opened: LogitCache, store, runtime) -> None:
    found = list(replay(store.find(opened.config), store, runtime, 40))
    assert [(finding.what, finding.ok) for finding in found] == [
        ("images", True),
        ("rows", True),
        ("pixels", True),
        ("logits", True),
    ]
    assert "40 of 40 views" in found[2].found
    assert "40 views asked again" in found[3].found


def test_replay_finds_what_no_longer_fits(
    opened: LogitCache, store, runtime, dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = store.find(opened.config)
    with monkeypatch.context() as patch:
        patch.setattr("distill.audit.replay.load", lambda *_: reordered(dataset))
        assert findings(artifact, store, runtime) == {"images": False}
    with monkeypatch.context() as patch:
        patch.setattr("distill.data.views.crops._FIELD", 20)
        found = findings(artifact, store, runtime)
        assert found == {"images": True, "rows": True, "pixels": False, "logits": False}
    with monkeypatch.context() as patch:
        rows = LogitCache.rows
        patch.setattr(LogitCache, "rows", lambda self, index, view=0: rows(self, index, view) + np.float16(0.1))
        assert findings(artifact, store, runtime)["rows"] is False
    with monkeypatch.context() as patch:
        # As if it had been trained anew.
        patch.setattr("distill.audit.replay.weights_file", lambda teacher, snapshot: "metrics.jsonl")
        assert findings(artifact, store, runtime)["logits"] is None
    shutil.rmtree(store.path(opened.config.teacher))
    assert findings(artifact, store, runtime) == {"images": True, "rows": True, "pixels": True, "logits": None}
    monkeypatch.setattr("distill.audit.replay.load", refuse)
    assert findings(artifact, store, runtime) == {"images": None}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cache_of_a_gpu_is_replayed_on_both(shifted: CacheConfig, store, runtime) -> None:
    on_gpu = runtime.model_copy(update={"device": "cuda"})
    artifact = make(shifted, store, on_gpu)
    assert all(findings(artifact, store, on_gpu).values())
    assert all(findings(artifact, store, runtime).values())


def test_verify_says_so_and_exits_with_1(opened: LogitCache, store, runtime, dataset, monkeypatch, capsys) -> None:
    command = ["verify", str(opened.path), "--store", str(store.root), "--device", "cpu", "--samples", "20"]
    main(command)
    assert "ok       pixels: 20 of 20 views" in capsys.readouterr().out
    monkeypatch.setattr("distill.audit.replay.load", lambda *_: reordered(dataset))
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    told = capsys.readouterr().out
    assert "FAILED   images: data.order" in told
    assert "1 damaged or stale: make" in told
    monkeypatch.setattr("distill.audit.replay.load", refuse)
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    told = capsys.readouterr().out
    assert "unproven images: data = 'gone'" in told
    assert "delete" not in told
    with pytest.raises(SystemExit) as stop:
        main([*command[:-1], "0"])
    assert stop.value.code == 2


def test_evaluate_measures_the_cached_logits(opened: LogitCache, store, dataset, capsys) -> None:
    main(["evaluate", str(opened.path), "--store", str(store.root)])
    told = dict(line.split() for line in capsys.readouterr().out.splitlines())
    logits = opened.logits(torch.arange(len(opened))).float()
    expected = (logits.argmax(1) == dataset.train.labels).float().mean().item()
    assert float(told["accuracy"]) == pytest.approx(expected, rel=1e-4)
    assert float(told["interclass_variance"]) > 0


def test_many_classes(tmp_path) -> None:
    for classes, top_k in ((1000, None), (21_841, None), (21_841, 100)):
        layout = Layout(3000, 1, Encoding(classes, "float16", top_k))
        exact = torch.randn(3000, classes, generator=torch.Generator().manual_seed(0))

        def answers(shard: Shard, exact: torch.Tensor = exact) -> list[Piece]:
            return [Piece(exact[shard.first : shard.last], torch.zeros(shard.last - shard.first, dtype=torch.long))]

        folder = tmp_path / f"{classes}-{top_k}"
        folder.mkdir()
        write_shards(folder, layout, answers)
        reader = ShardReader(lambda name, folder=folder: folder / name, layout)
        index = torch.tensor([2999, 0, 2048, 7])
        found = layout.encoding.decode(reader.rows(index.numpy(), 0)).float()
        kept = exact[index].topk(top_k or classes).indices
        torch.testing.assert_close(found.gather(1, kept), exact[index].gather(1, kept), atol=2e-3, rtol=1e-3)


def test_a_student_of_fewer_views_reads_those_only(opened: LogitCache, student, store, runtime) -> None:
    schedule = student.schedule.replace(epochs=3)
    config = student.replace(cache=opened.config, views=2, schedule=schedule)
    damaged = sorted((opened.path / "logits").iterdir())[2]
    damaged.write_bytes(b"")
    assert make(config, store, runtime).record.metrics["cache/bytes_per_view"] == 20
    with pytest.raises(UserError, match="0 bytes instead of"):
        make(config.replace(views=None), store, runtime)
