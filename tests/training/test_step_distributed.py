"""Two ranks of torchrun on a CPU against one process: the same curves, caches and files, and nobody hangs.

Numbers differ by the rounding of sums over two halves, which training enlarges. `CURVE` is what it may come to, on
every logged loss of runs of about 50 steps in float32.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.pipeline.graph import ensure
from distill.pipeline.identity import identify
from distill.pipeline.run import run_stage
from distill.store.artifact import Artifact
from distill.store.record import RESUME
from distill.store.store import ArtifactStore
from distill.training.network import WEIGHTS
from distill.training.tracking import read_metrics
from tests.training import two_ranks
from tests.training.two_ranks import CACHE, ENDLESS, HOT, RESUMED, RUNS

CURVE = 1e-5
WEIGHT = 1e-4
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which two ranks are at work, until they are stopped at the end."""
    folder = tmp_path_factory.mktemp("pair")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        script = [str(ROOT / "tests" / "training" / "two_ranks.py"), str(folder)]
        process = subprocess.Popen([*command, *script], stdout=log, stderr=log, cwd=ROOT, env=environment)
    try:
        yield from _alive(folder, process)
    finally:
        process.kill()
        process.wait()


def _alive(folder: Path, process: subprocess.Popen) -> Iterator[Path]:
    (folder / "pid").write_text(str(process.pid))
    yield folder


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, (path.parent / "log").read_text()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """The same by one process."""
    runtime = two_ranks.runtime(tmp_path_factory.mktemp("alone"))
    store = ArtifactStore(runtime.store)
    ensure([*RUNS.values(), RESUMED], store, runtime)
    return store


def found(store: ArtifactStore, config) -> Artifact:
    artifact = store.find(identify(config, two_ranks.runtime(store.root.parent)))
    assert artifact is not None
    return artifact


def assert_same_training(one: Artifact, two: Artifact) -> None:
    ours, theirs = read_metrics(one.path), read_metrics(two.path)
    assert [point["step"] for point in ours] == [point["step"] for point in theirs]
    for here, there in zip(ours, theirs, strict=True):
        assert here.keys() == there.keys()
        losses = {name: value for name, value in here.items() if name.startswith("loss/") or name.endswith("/nll")}
        assert {name: there[name] for name in losses} == pytest.approx(losses, rel=CURVE)
    weights, others = load_file(str(one.path / WEIGHTS)), load_file(str(two.path / WEIGHTS))
    for name, weight in weights.items():
        assert others[name].numpy() == pytest.approx(weight.numpy(), abs=WEIGHT * float(weight.abs().max()))
    assert _files(one) == _files(two)


def _files(artifact: Artifact) -> set[str]:
    return {name for name in artifact.record.files if not name.startswith("tb/")}


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_train_as_one_process_does(pair, alone, name) -> None:
    _wait_for(pair / "stopped0")
    assert_same_training(found(alone, RUNS[name]), found(ArtifactStore(pair / "two"), RUNS[name]))


def test_both_ranks_write_one_cache_and_its_rows_are_those_of_one_process(pair, tmp_path) -> None:
    _wait_for(pair / "stopped0")
    two = found(ArtifactStore(pair / "two"), CACHE)
    store = ArtifactStore(tmp_path)
    (tmp_path / "teachers").symlink_to(pair / "two" / "teachers")
    one = run_stage(CACHE, store, two_ranks.runtime(tmp_path))
    assert two.record.files == one.record.files
    assert two.record.metrics == one.record.metrics
    assert len(json.loads((two.path / "shards.json").read_text())) == CACHE.views


@pytest.mark.fault("numbers that are not finite, too little memory")
def test_a_divergence_is_found_on_both_ranks_which_then_go_on(pair) -> None:
    _wait_for(pair / "stopped0")
    assert ArtifactStore(pair / "two").diverged(HOT)


def test_a_training_goes_on_with_another_number_of_ranks(pair, alone) -> None:
    """Two ranks, one of which is interrupted; then one process, which is interrupted too; then two again."""
    store, runtime = ArtifactStore(pair / "two"), two_ranks.runtime(pair / "two")
    for number in (0, 1):
        _wait_for(pair / f"stopped{number}")
    assert (store.draft_path(RESUMED) / RESUME).exists()
    update = two_ranks.Run.update
    two_ranks.stop_at(21, signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_stage(RESUMED, store, runtime)
    finally:
        two_ranks.Run.update = update
    (pair / "go on").touch()
    _wait_for(pair / "done")
    assert_same_training(found(alone, RESUMED), found(store, RESUMED))


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
def test_sigterm_saves_the_state_and_ends_all(pair) -> None:
    (pair / "go on").touch()  # where this test is run alone
    _wait_for(pair / "done")
    draft = ArtifactStore(pair / "two").draft_path(ENDLESS)
    _wait_for(draft / "metrics.jsonl")
    assert not (draft / RESUME).exists()
    process = int((pair / "pid").read_text())
    os.kill(process, signal.SIGTERM)
    asked = time.monotonic()
    _wait_for(draft / RESUME)
    assert os.waitpid(process, 0)
    assert time.monotonic() - asked < 10  # 2 on a quiet machine


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL wants a GPU for each rank")
@pytest.mark.parametrize("parts", [1, 2], ids=["batch norm of a batch", "of a part"])
def test_two_gpus_train_as_one_does(tmp_path, parts) -> None:
    flags = [
        "-m",
        "distill",
        "teacher",
        "--device",
        "cuda",
        "--no-progress",
        "--model.name",
        "cnn",
        "--schedule.epochs",
        "3",
    ]
    pair = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    curves = []
    for start in ([], pair):
        folder = ["--store", str(tmp_path / str(len(start))), "--schedule.parts", str(parts)]
        subprocess.run([sys.executable, *start, *flags, *folder], check=True, cwd=ROOT)
        (made,) = ArtifactStore(tmp_path / str(len(start))).all()
        curves.append([point["loss/total"] for point in read_metrics(made.path)])
    assert curves[1] == pytest.approx(curves[0], rel=1e-2)
