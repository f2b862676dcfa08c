"""Check that verify finds damage to any file, and that a reader of the file refuses it and says why."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from safetensors.torch import load_file, save_model

from distill.audit.verify import examine, repair
from distill.cache import LogitCache
from distill.cli.main import main
from distill.config import AdoptFlags, CacheConfig, ScheduleConfig, StudentConfig
from distill.data.sets.load import load
from distill.errors import UserError
from distill.models import build_model
from distill.pipeline import experiments
from distill.pipeline.adopting import adopt
from distill.pipeline.graph import ensure, run
from distill.reports import experiment_files
from distill.reports.sweep_answers import format_sweep
from distill.stages.analysis import measure, measure_cache, own_teacher
from distill.stages.calibration import load_scaling
from distill.stages.sweep import SWEEP
from distill.store.record import RECORD
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from distill.system.reading import read_json
from distill.system.runtime import Runtime
from distill.training.network import WEIGHTS, load_network, network_config
from tests.faults import tiny
from tests.faults.damage import DAMAGES
from tests.faults.same_bits import differences
from tests.small import TINY

pytestmark = pytest.mark.fault("a damaged file in a store")

NAMES = tuple(stage for stage in STAGES if stage != "adopted")


def runtime(store: Path) -> Runtime:
    return Runtime(store=store, device="cpu", executor="inline", progress=False, min_teacher_accuracy=0, workers=0)


@pytest.fixture(scope="module")
def experiment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment_files, "load_experiment", {tiny.NAME: tiny}.__getitem__)
        patch.setattr(experiment_files, "experiment_names", lambda: [tiny.NAME])
        yield


@pytest.fixture(scope="module")
def whole(experiment: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with artifacts of every stage, and a second cache."""
    root = tmp_path_factory.mktemp("whole") / "store"
    ensure([*tiny.stages().values(), tiny.CACHE.replace(view_seed=1)], ArtifactStore(root), runtime(root))
    return root


def make(stage: str) -> Callable[[Path, Path, Path], object]:
    """Return a reader that runs a stage, which must refuse the damage or give the same result."""

    def run(root: Path, whole: Path, _touched: Path) -> object:
        config = tiny.stages()[stage]
        store = ArtifactStore(root)
        made = store.path(config)
        shutil.rmtree(made)
        ensure([config], store, runtime(root))
        # An input without a record is none, and is made again: another time, another record.
        return [name for name in differences(ArtifactStore(whole).path(config), made) if name != RECORD]

    run.__name__ = f"make {stage}"
    return run


def evaluate(root: Path, _whole: Path, touched: Path) -> object:
    store = ArtifactStore(root)
    artifact = store.read(touched)
    if artifact.config.stage == "cache":
        opened = LogitCache(artifact)
        return measure_cache(opened, load(opened.config.transfer_set, Path("nowhere")))
    config = network_config(artifact)
    teacher = own_teacher(config) if isinstance(config, StudentConfig) else None
    return measure(config, artifact, store.find(teacher) if teacher else None).values


def weights(root: Path, _whole: Path, touched: Path) -> object:
    network = load_network(ArtifactStore(root).read(touched))
    return {name: value.tolist() for name, value in network.state_dict().items()}


def scaling(root: Path, _whole: Path, touched: Path) -> object:
    return str(load_scaling(ArtifactStore(root).read(touched)))


def answers(root: Path, _whole: Path, touched: Path) -> object:
    return format_sweep(read_json(ArtifactStore(root).read(touched).file(SWEEP))).replace(str(root), "")


def page(root: Path, _whole: Path, _touched: Path) -> object:
    made = experiments.reproduce(tiny.NAME, "smoke", None, ArtifactStore(root), runtime(root))
    return made.page.read_text()


CONSUMERS = {
    "teacher": [make("cache"), make("analysis"), make("sweep"), evaluate, weights],
    "cache": [make("student"), evaluate],
    "student": [make("calibration"), make("analysis"), evaluate, weights],
    "calibration": [scaling],
    "analysis": [make("report")],
    "sweep": [answers],
    "report": [page],
}


def test_damage_is_found_and_never_read(whole: Path, tmp_path: Path, count, attempts) -> None:
    draw = random.Random(7)
    trials, found, unread, refused = count(40, 500), [], 0, 0
    expected: dict[tuple[str, Path], object] = {}
    for trial in range(trials):
        stage = NAMES[trial % len(NAMES)]
        store = tmp_path / str(trial)
        shutil.copytree(whole, store)
        touched, file, done = damaged(store, stage, draw)
        what = f"{trial}: {file.relative_to(store)} {done}"
        if touched not in [each.path for each in examine(ArtifactStore(store)) if each.problems]:
            found.append(f"{what}: verify does not find it")
        was_there = file.exists()  # before it is made again
        consumer = draw.choice(CONSUMERS[stage])
        case = consumer.__name__, touched.relative_to(store)
        if case not in expected:
            expected[case] = [] if case[0].startswith("make") else consumer(whole, whole, whole / case[1])
        try:
            result = consumer(store, whole, touched)
        except UserError as error:
            refused += 1
            text = str(error)
            if not {touched.name, file.name} & set(re.split(r"[/' ]", text)) or not any(
                way in text for way in ("--repair", "Delete")
            ):
                found.append(f"{what}: {case[0]} says {text}")
        except Exception as error:
            found.append(f"{what}: {case[0]} ends in {error!r}")
        else:
            unread += 1
            # Without its record an input is none, and is made again: it took another time, which reports tell.
            if result != expected[case] and was_there:
                found.append(f"{what}: {case[0]} gives {str(result)[:200]}")
        shutil.rmtree(store)
    assert min(refused, unread) > trials // 10
    attempts(trials, found)


def damaged(store: Path, stage: str, draw: random.Random) -> tuple[Path, Path, str]:
    """Damage a file: the folder of its artifact, the file, and what was done."""
    for _ in range(1000):
        touched = draw.choice(sorted((store / STAGES[stage].folder).glob("*/")))
        file = draw.choice([path for path in sorted(touched.rglob("*")) if path.is_file()])
        if done := draw.choice(DAMAGES)(file, draw):
            return touched, file, done
    raise AssertionError("nothing can be damaged")


def test_verify_names_what_is_damaged_and_makes_it_again(whole: Path, tmp_path: Path, capsys) -> None:
    root = shutil.copytree(whole, tmp_path / "store")
    store = ArtifactStore(root)
    cache, report = (store.path(tiny.stages()[stage]) for stage in ("cache", "report"))
    shard = next(cache.glob("logits/*.npy"))
    shard.write_bytes(shard.read_bytes()[::-1])
    (report / "index.html").write_text("<p>all is well</p>")
    (store.path(tiny.SWEEP) / RECORD).unlink()
    where = ["--store", str(root), "--device", "cpu"]
    with pytest.raises(SystemExit, match="1"):
        main(["verify", *where])
    said = capsys.readouterr().out
    assert said.count("\ndamaged  ") + said.startswith("damaged  ") == 3
    assert "3 damaged or stale: make them again with `distill verify --repair" in said
    assert f"logits/{shard.name}: sha256 differs" in said
    with pytest.raises(SystemExit, match="2"):
        main(["verify", "--repair", *where])
    assert "the names of what to make again" in capsys.readouterr().err
    main(["verify", str(cache), str(report), "--repair", "--min-teacher-accuracy", "0", "--jobs", "1", *where])
    assert capsys.readouterr().out.count("made     ") == 2
    assert differences(cache, ArtifactStore(whole).path(tiny.CACHE)) == []
    assert [found.path for found in examine(store) if found.problems or found.unproven] == [store.path(tiny.SWEEP)]


@pytest.mark.parametrize("error", [UserError("trust", "a plug-in", "b", "c"), KeyboardInterrupt()])
def test_what_cannot_be_made_again_stays(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    store = ArtifactStore(shutil.copytree(whole, tmp_path / "store"))
    path = store.path(tiny.TEACHER)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    (found,) = examine(store, [store.read(path)])

    def refuse(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("distill.audit.verify.run", refuse)
    with pytest.raises(type(error)):
        repair(found, store, runtime(store.root))
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()} == before


def test_what_was_made_from_a_record_without_a_seal_is_unproven(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / "store")
    store = ArtifactStore(root)
    record = store.path(tiny.TEACHER) / RECORD
    fields = json.loads(record.read_text())
    fields["metrics"]["held_out/accuracy"] = 1.0
    fields["seal"] = ""
    record.write_text(json.dumps(fields))
    told = {found.path: found for found in examine(store)}
    assert "it was changed" in told[record.parent].problems[0]
    assert told[store.path(tiny.CACHE)].unproven
    assert not told[store.path(tiny.STUDENT)].unproven, "it was made from the cache"
    (only,) = examine(store, [store.read(store.path(tiny.CACHE))])
    assert "it was changed" in only.unproven[0]
    assert not only.problems
    shutil.rmtree(record.parent)
    ensure([tiny.TEACHER], store, runtime(root))
    assert not any(found.unproven or found.problems for found in examine(store)), "made again, it has a seal"


def test_a_folder_with_another_name_is_found(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / "store")
    first, second = sorted((root / "caches").glob("*/"))
    first.rename(root / "other")
    second.rename(first)
    (root / "other").rename(second)
    assert [found.path for found in examine(ArtifactStore(root)) if found.problems] == [first, second]
    assert ArtifactStore(root).find(tiny.CACHE) is None


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with three adopted networks, one of which is weights only."""
    root = tmp_path_factory.mktemp("elsewhere")
    store, weights = ArtifactStore(root / "store"), root / "w.safetensors"
    for seed in (0, 1):
        save_model(build_model(TINY, 10, (1, 8, 8)), str(weights))
        flags = AdoptFlags(model=TINY, data=tiny.TEACHER.data, provenance=f"network {seed}")
        accepting = runtime(store.root).model_copy(update={"accept_class_order": True})
        adopt(weights, store, accepting, flags)
    adopt(weights, store, runtime(store.root), flags.replace(only_weights=True))
    return store.root


def begin(root: Path, whole: Path, touched: Path) -> object:
    """Begin a training with a network."""
    first = ArtifactStore(whole).read(whole / touched.relative_to(root)).config
    config = tiny.TEACHER.replace(init=first, snapshots=0, schedule=ScheduleConfig(epochs=1))
    made = run(config, ArtifactStore(root), runtime(root))
    found = load_file(made.path / WEIGHTS)
    shutil.rmtree(made.path)
    return {name: value.tolist() for name, value in found.items()}


def teach(root: Path, whole: Path, touched: Path) -> object:
    """Write a cache of a network that may teach; load it alone otherwise."""
    first = ArtifactStore(whole).read(whole / touched.relative_to(root)).config
    if first.only_weights:
        return begin(root, whole, touched)
    config = CacheConfig(teacher=first, transfer_set=tiny.TEACHER.data.replace(limit=50))
    accepting = runtime(root).model_copy(update={"accept_class_order": True})
    made = run(config, ArtifactStore(root), accepting)
    found = LogitCache(made).logits(torch.arange(8)).tolist()
    shutil.rmtree(made.path)
    return found


def test_damage_to_networks_from_elsewhere_is_found_and_never_read(
    elsewhere: Path, tmp_path: Path, count, attempts
) -> None:
    draw = random.Random(8)
    trials, found, refused = count(20, 200), [], 0
    expected: dict[tuple[Callable[..., object], str], object] = {}
    for trial in range(trials):
        store = shutil.copytree(elsewhere, tmp_path / str(trial))
        touched, file, done = damaged(store, "adopted", draw)
        what = f"{trial}: {file.relative_to(store)} {done}"
        if touched not in [each.path for each in examine(ArtifactStore(store)) if each.problems]:
            found.append(f"{what}: verify does not find it")
        consumer = draw.choice([begin, teach])
        case = consumer, touched.name
        if case not in expected:
            clean = shutil.copytree(elsewhere, tmp_path / f"{trial} clean")
            expected[case] = consumer(clean, elsewhere, clean / "teachers" / touched.name)
        try:
            result = consumer(store, elsewhere, touched)
        except UserError as error:
            refused += 1
            if not re.search("--repair|Delete|distill adopt FILE", str(error)) or "\n" in str(error):
                found.append(f"{what}: {consumer.__name__} says {error}")
        except Exception as error:
            found.append(f"{what}: {consumer.__name__} ends in {error!r}")
        else:
            if result != expected[case]:
                found.append(f"{what}: {consumer.__name__} gives {str(result)[:200]}")
        assert not list((store / "students").glob("*"))
        shutil.rmtree(store)
    assert refused > trials // 3
    attempts(trials, found)
