"""Check that a stage goes on elsewhere from its last saved state when its node of a Ray cluster dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from distill.config import CacheConfig, DataConfig, ModelConfig, ScheduleConfig, StudentConfig, TeacherConfig
from distill.pipeline.executors import ray_cluster
from distill.pipeline.graph import ensure, missing
from distill.pipeline.identity import identify_all
from distill.store.key import key
from distill.store.record import RESUME
from distill.store.stages import inputs
from distill.store.store import ArtifactStore
from distill.system import trust
from distill.system.runtime import Runtime
from tests.faults.same_bits import differences

ray = pytest.importorskip("ray")

# Ray leaves its sockets, logs and child processes to the garbage collector.
pytestmark = [
    pytest.mark.fault("a node or a worker process that dies"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
SLOW_NET = '''
import os, time
from pathlib import Path
import torch
from torch import nn

class Slow(nn.Sequential):
    """Notes each step of its training, which takes a while."""

    def forward(self, images):
        if self.training and torch.is_grad_enabled():
            time.sleep(float(os.environ["SLOW_NET"]))
            with Path("steps").open("a") as file:
                file.write(f"{self.name} {os.getpid()} {node()}\\n")
        return super().forward(images)

def node():
    import ray
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else "inline"

def build(classes, shape, name):
    net = Slow(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 16), nn.ReLU(), nn.Linear(16, classes))
    net.name = name
    return net
'''
EPOCHS = 8


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the working directory, which has the user's plug-in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLOW_NET", "0.02")
    (tmp_path / "slow_net.py").write_text(SLOW_NET)
    return tmp_path


@pytest.fixture
def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start three nodes of one core each; the death of one is noticed within two seconds."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of this test")
    with ray_cluster.silenced(ray_cluster.import_ray()):
        from ray._raylet import AuthenticationTokenLoader
        from ray.cluster_utils import Cluster

        tokens: Any = AuthenticationTokenLoader
        tokens.instance().reset_cache()  # an earlier test of this process may have had another token

        size: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
        watch = {
            "health_check_period_ms": 500,
            "health_check_timeout_ms": 2000,
            "health_check_failure_threshold": 2,
        }
        head = {**size, "include_dashboard": False, "_system_config": watch}
        found = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                found.add_node(**size)
            yield found
        finally:
            found.shutdown()
            tokens.instance().reset_cache()


def configs() -> list[TeacherConfig | StudentConfig]:
    data = DataConfig(held_out=0.15)
    schedule = ScheduleConfig(epochs=EPOCHS, batch_size=64)
    teachers = [
        TeacherConfig(data=data, model=slow(f"teacher{seed}"), schedule=schedule, seed=seed) for seed in range(3)
    ]
    cache = CacheConfig(teacher=teachers[0], transfer_set=data)
    student = StudentConfig(cache=cache, data=data, model=slow("student"), schedule=schedule)
    return [*teachers, student]


def slow(name: str) -> ModelConfig:
    trust.name("slow_net:build")
    return ModelConfig(name="slow_net:build", kwargs={"name": name})


def test_a_node_is_killed_in_mid_training(
    cluster: Any, folder: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = identify_all(configs(), ArtifactStore(runtime.store), runtime)  # drafts are named by what is trained
    names = dict(zip(map(key, wanted), ["teacher0", "teacher1", "teacher2", "student"], strict=True))
    there = runtime.model_copy(
        update={"executor": "ray", "address": cluster.address, "threads": 1, "checkpoint_seconds": 0.2}
    )
    stages = missing(wanted, ArtifactStore(runtime.store))
    killed: list[str] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            noted = {name: [node for _, node in tries] for name, tries in steps(folder).items()}
            for config, name in names.items():
                (saved,) = [*(there.store / "drafts").glob(f"*-{config[:8]}/{RESUME}")] or [folder / "none"]
                # Not the node of this process, with which it would die.
                own = ray.get_runtime_context().get_node_id() if saved.exists() else ""
                for doomed in [node for node in cluster.worker_nodes if node.node_id != own]:
                    if doomed.node_id in noted.get(name, []) and saved.exists():
                        cluster.remove_node(doomed, allow_graceful=False)
                        killed.append(name)
                        return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    ensure(wanted, ArtifactStore(there.store), there)
    killer.join()
    assert len(killed) == 1, "a node died in mid-training"
    done = steps(folder)
    _, err = capfd.readouterr()
    assert "its worker died; it goes on from what was saved last" in err

    monkeypatch.setenv("SLOW_NET", "0")
    alone = runtime.model_copy(update={"executor": "inline", "store": folder / "alone", "threads": 1})
    (folder / "steps").unlink()
    ensure(wanted, ArtifactStore(alone.store), alone)
    whole = {name: len(tries) for name, tries in steps(folder).items()}

    for config in stages:
        one, other = (ArtifactStore(store).find(config) for store in (there.store, alone.store))
        assert one is not None
        assert other is not None
        assert one.problems() == []
        # A record holds the sha256 of the records that it was made from, and those the seconds it took.
        assert not set(differences(one.path, other.path)) - ({"record.json"} if inputs(config) else set())
        assert one.record.metrics == other.record.metrics
    for name, tries in done.items():
        attempts = [len(list(group)) for _, group in groupby(tries)]
        if name not in killed:
            assert attempts == [whole[name]], "made once"
        else:
            first, second = attempts
            assert second < whole[name], "it goes on from what was saved"
            assert first + second >= whole[name]
    left = [path for path in (there.store / "drafts").iterdir() if path.is_dir()]
    assert not left


def steps(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Map each network to the process and the node of each of its steps."""
    found: dict[str, list[tuple[str, str]]] = {}
    with suppress(FileNotFoundError):
        for line in (folder / "steps").read_text().splitlines():
            name, process, node = line.split()
            found.setdefault(name, []).append((process, node))
    return found
