from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from distill.config import StudentConfig
from distill.errors import Diverged, UserError
from distill.pipeline.executors import ray as executor
from distill.pipeline.executors import ray_cluster
from distill.pipeline.executors.ray import run_ray
from distill.pipeline.graph import ensure
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.progress import Warned, pass_on
from distill.system.runtime import Runtime
from tests.pipeline.executors.recorded import Recorded

ray = pytest.importorskip("ray")

# Ray leaves its sockets, logs and child processes to the garbage collector.
pytestmark = [
    pytest.mark.fault("a node or a worker process that dies"),
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "ignore::DeprecationWarning:ray",
    ),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start a cluster as `run_ray` does, and keep it for all tests."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not find this file
    with ray_cluster.connection(ray_cluster.import_ray(), None):
        yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


class Unpicklable(Exception):
    def __init__(self, one: str, two: str):
        super().__init__(one + two)


class Stages:
    """A stage runs the method of its name; each start writes a line to a file."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, name: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{os.getpid()}\n")
        getattr(self, name)(self.starts(name) == 1)

    def starts(self, name: str) -> int:
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    def good(self, _first: bool) -> None:
        assert pass_on(Warned("kind", "a stage warns"))

    def after(self, _first: bool) -> None:
        assert self.starts("good"), "what it needs is there"

    def diverges(self, _first: bool) -> NoReturn:
        raise Diverged(3, 0.1, float("nan"))

    def breaks(self, _first: bool) -> NoReturn:
        print("before it broke")
        raise Unpicklable("two ", "arguments")

    def killed_once(self, first: bool) -> None:
        if first:
            os.kill(os.getpid(), signal.SIGKILL)

    def stopped_once(self, first: bool) -> None:
        if first:
            sys.exit(128 + signal.SIGTERM)  # as a training does that was told to stop, with its state saved

    def killed(self, _first: bool) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def saves(self, _first: bool) -> None:
        """Wait for the signal and save, as a training does."""
        pending: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _frame: pending.append(number))
        (self.folder / "trains").touch()
        until = time.monotonic() + 30
        while not pending and time.monotonic() < until:
            time.sleep(0.02)
        signal.signal(signal.SIGINT, before)
        (self.folder / "saved").write_text(str(pending))
        raise KeyboardInterrupt


def graph_of(stages: Stages, *names: str, then: Callable[[str], object] = lambda _: None) -> Recorded:
    needs = {"after": ["good"], "blocked": ["diverges"]}
    return Recorded({name: needs.get(name, []) for name in names}, stages, stages.folder / "logs", then)


@pytest.mark.usefixtures("cluster")
def test_errors_are_kept_and_what_died_is_started_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "RETRIES", 1)
    stages = Stages(tmp_path)
    names = ["after", "good", "blocked", "diverges", "breaks", "killed_once", "stopped_once", "killed"]
    failures = run_ray(graph := graph_of(stages, *names))
    assert sorted(graph.finished) == ["after", "good", "killed_once", "stopped_once"]
    assert {name: stages.starts(name) for name in names} == {
        "after": 1,
        "good": 1,
        "blocked": 0,
        "diverges": 1,
        "breaks": 1,
        "killed_once": 2,
        "stopped_once": 2,
        "killed": 2,
    }
    assert set(failures) == {"diverges", "breaks", "killed"}
    assert isinstance(failures["diverges"].error, Diverged)
    assert failures["diverges"].error.step == 3
    assert failures["diverges"].blocked == ("blocked",)
    assert "two arguments" in str(failures["breaks"].error)
    log = failures["breaks"].log
    assert log is not None
    assert "before it broke" in log.read_text()
    assert isinstance(failures["killed"].error, UserError)
    out, err = capfd.readouterr()
    assert "warning: a stage warns" in err
    assert "killed_once: its worker died; it goes on from what was saved last" in err
    assert not out, "Ray is quiet"
    assert not list((tmp_path / "logs").glob("*.token"))


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
@pytest.mark.usefixtures("cluster")
def test_an_interrupt_lets_running_stages_save_their_state(tmp_path: Path) -> None:
    stages = Stages(tmp_path)

    def interrupt(_name: str) -> None:
        wait_until((tmp_path / "trains").exists)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_ray(graph_of(stages, "saves", "good", "after", then=interrupt))
    assert (tmp_path / "saved").read_text() == str([int(signal.SIGINT)])
    assert stages.starts("saves") == 1
    assert stages.starts("after") == 0


@pytest.mark.usefixtures("cluster")
def test_artifacts_are_those_of_one_process(student: StudentConfig, runtime: Runtime, tmp_path: Path) -> None:
    weights = []
    for where in ("inline", "ray"):
        there = runtime.model_copy(update={"executor": where, "store": tmp_path / where, "threads": 1})
        made = ensure([student], ArtifactStore(there.store), there)[key(student)]
        assert not isinstance(made, str)
        weights.append(made.file("model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("gone", ["folder", "token"])
def test_a_node_without_the_folders_is_refused(tmp_path: Path, gone: str) -> None:
    before = Path.cwd()
    folder = tmp_path / "gone" if gone == "folder" else before
    with pytest.raises(UserError, match="on every node"):
        executor.WorkerSetup(None, tmp_path / "token", bars=False, folder=folder).apply()
    assert Path.cwd() == before


@pytest.mark.usefixtures("cluster")
def test_what_no_node_can_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Lower `threads` or `gpus`"):
        run_ray(graph_of(Stages(tmp_path), "good"), gpus=64.0)


def test_a_share_of_gpus_beyond_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gpus = 1\.5"):
        run_ray(graph_of(Stages(tmp_path), "good"), gpus=1.5)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:6379", "127.0.0.1:port"])
def test_an_address_without_a_cluster_is_refused_soon(address: str) -> None:
    with pytest.raises(UserError, match="address of a Ray cluster that runs"):
        ray_cluster.connect(ray, address)


@pytest.mark.fault("plug-ins that nobody named")
@pytest.mark.usefixtures("cluster")
def test_a_cluster_of_its_own_listens_to_this_machine_alone_and_asks_for_a_token() -> None:
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert ray._raylet.get_authentication_mode() == ray._raylet.AuthenticationMode.TOKEN


@pytest.mark.fault("plug-ins that nobody named")
@pytest.mark.usefixtures("cluster")
def test_workers_import_nothing_from_the_working_directory(tmp_path: Path) -> None:
    paths = ray.get(ray.remote(lambda: sys.path).remote())
    assert str(Path.cwd()) not in paths or Path.cwd() == Path(ray_cluster.__file__).parents[3]


@pytest.mark.fault("plug-ins that nobody named")
def test_a_ray_that_lets_everybody_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "__version__", "2.51.2")
    with pytest.raises(UserError, match=r"Ray 2\.52 or later.*pip install \"ray>=2\.52"):
        ray_cluster.import_ray()


def test_without_ray_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install \"ray>=2\.52"):
        run_ray(graph_of(Stages(tmp_path), "good"))


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
