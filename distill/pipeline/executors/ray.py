"""Run the stages of a graph as tasks of a Ray cluster whose nodes share the folder of the store.

Ray finds a node with room for each stage. When a worker or its node dies, Ray starts the stage again, on that node
or another. The stage goes on from what was saved last in its draft in the store. The lock of the draft keeps a
worker that only seems dead from writing beside its successor.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, NamedTuple

from distill.errors import UserError
from distill.pipeline.executors import worker
from distill.pipeline.executors.failures import Failure, log_file
from distill.pipeline.executors.ray_cluster import RETRIES, SizeCheck, connection, import_ray
from distill.pipeline.executors.signals import signals_raise
from distill.pipeline.executors.stage_graph import Graph, Work, show_message
from distill.system.progress import Lines, Message, Report, report_to, tell

_GRACE_SECONDS = 30.0
"""Seconds that running stages may take to save their state after an interrupt; a second interrupt does not wait."""
_POLL_SECONDS = 0.5


def run_ray(
    graph: Graph[Work],
    address: str | None = None,
    cpus: int = 1,
    gpus: float | None = None,
    jobs: int | None = None,
) -> dict[str, Failure]:
    """Run every stage after its inputs, as many at a time as there is room for, and return the failures.

    Args:
        graph: the stages; the path of its logs is absolute and lies in the store.
        address: address of the cluster to join; None starts a cluster on this machine, and ends it.
        cpus: cores that a stage asks for.
        gpus: GPUs that a stage asks for, or a share of one; None asks for one if the cluster has any.
        jobs: number of stages that may run at a time; None leaves it to the room in the cluster.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or it has no node that could run a stage.
        KeyboardInterrupt, SystemExit: on SIGINT, SIGTERM or SIGHUP. Stages that have not started are dropped,
            training networks save their state and stop, and finished stages are kept.
    """
    if gpus is not None and gpus > 1 and gpus % 1:
        raise UserError("gpus", gpus, "a share of one GPU, or a whole number of them", "Set it to 1 or less.")
    ray = import_ray()
    if not graph.open:
        return {}
    with (
        connection(ray, address),
        signals_raise(),
        _token(graph.logs) as token,
        Lines(len(graph.stages), graph.show) as lines,
    ):
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        size_check = SizeCheck(ray, cpus, gpus, may_grow=address is not None)
        size_check.run()
        tasks = _Tasks(ray, graph, lines, token, cpus, gpus)
        try:
            while graph.open:
                tasks.submit(jobs)
                tasks.wait()
                if not tasks.any_started:
                    size_check.run()
        except BaseException:
            tasks.cancel()
            raise
    return graph.failures


class _Tasks(Generic[Work]):
    """Hold the Ray tasks of the stages that were submitted and have not ended."""

    def __init__(self, ray: ModuleType, graph: Graph[Work], lines: Lines, token: Path, cpus: int, gpus: float):
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._graph, self._lines = ray, graph, lines
        # On the node of this process: on another node the inbox could die with that node.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._inbox = ray.remote(_Inbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self._setup = WorkerSetup(self._inbox, token, lines.shown)
        self._task = ray.remote(_work).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        self._names: dict[Any, str] = {}
        """Ray's reference to each task → name of its stage."""
        self._started: set[str] = set()

    @property
    def any_started(self) -> bool:
        """Tell whether Ray has found a node for any stage that runs."""
        return bool(self._graph.running & self._started)

    def submit(self, jobs: int | None) -> None:
        """Submit the stages that are ready, up to `jobs` tasks in all."""
        for name in self._graph.ready()[: None if jobs is None else jobs - len(self._names)]:
            stage, log = self._graph.start(name), log_file(self._graph.logs, name)
            self._names[self._task.remote(self._graph.run, name, stage, log, self._setup)] = name

    def wait(self) -> None:
        """Wait until a task has ended, or for a moment; then show messages and note which stages have ended."""
        ended, _ = self._ray.wait(list(self._names), num_returns=1, timeout=_POLL_SECONDS)
        with suppress(self._ray.exceptions.RayError):  # the node of the inbox died: there are no more messages
            for name, message in self._ray.get(self._inbox.take.remote()):
                self._receive(name, message)
        for reference in ended:
            self._graph.end(self._names.pop(reference), _error(self._ray, reference), self._lines)

    def _receive(self, name: str, message: Message | _Started) -> None:
        if not isinstance(message, _Started):
            show_message(name, message, self._lines)
        elif name in self._started:
            tell(f"{name}: its worker died; it goes on from what was saved last, on {message.node}")
        else:
            self._started.add(name)
            self._lines.start(name)

    def cancel(self) -> None:
        """Tell running stages to save their state, drop waiting stages, and wait until all have ended."""
        with suppress(self._ray.exceptions.RayError):
            for reference in self._names:
                self._ray.cancel(reference)
            if self._names:
                self._ray.wait(list(self._names), num_returns=len(self._names), timeout=_GRACE_SECONDS)


def _error(ray: ModuleType, reference: Any) -> Exception | None:
    """Return the error in which a finished task ended; None when its artifact was made."""
    try:
        return ray.get(reference)
    except ray.exceptions.OutOfMemoryError:
        expected = f"a worker that lives (node out of memory, {RETRIES + 1} times)"
        return UserError("worker", "killed", expected, "Raise `threads`, so that fewer stages share a node.")
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError):
        expected = f"a worker that lives (it died {RETRIES + 1} times)"
        way_out = "It may have run out of memory: raise `threads`. Run the same command again to go on."
        return UserError("worker", "killed", expected, way_out)
    except ray.exceptions.RayTaskError as error:  # the task failed before the stage began
        reason = (str(error.cause).strip() or type(error.cause).__name__).splitlines()[-1]
        way_out = "Install the same packages on all nodes, and start Ray with the Python that has them."
        return UserError("worker", reason, "a node with the packages of this one", way_out)
    except ray.exceptions.RayError as error:
        return error


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """Keep a file in the store while the block runs; a node that sees the file knows that it shares the store."""
    token = folder / f"{uuid.uuid4().hex}.token"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = token.open("xb")
    except OSError as error:
        expected = f"a folder that can be written ({error.strerror})"
        way_out = "Set `store` or DISTILL_STORE to another folder."
        raise UserError("store", str(folder), expected, way_out) from error
    with file:
        try:
            with suppress(OSError):  # on a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)  # shows `distill gc` that this process lives
            yield token
        finally:
            with suppress(OSError):
                token.unlink()


class _Started(NamedTuple):
    """Tell that a worker has started a stage."""

    node: str


class _Inbox:
    """Hold the messages of workers, as a Ray actor, until somebody asks for them."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, Message | _Started]] = []

    def put(self, name: str, message: Message | _Started) -> None:
        self._messages.append((name, message))

    def take(self) -> list[tuple[str, Message | _Started]]:
        taken, self._messages = self._messages, []
        return taken


@dataclass(frozen=True)
class WorkerSetup:
    """Hold the settings with which a worker works as if it were the process that asked for the work."""

    inbox: Any
    """Ray's handle of the inbox that the worker's messages go to."""
    token: Path
    """A file in the store, which a node sees only if it shares the store."""
    bars: bool
    """Whether the worker reports its progress bars."""
    folder: Path = field(default_factory=Path.cwd)
    """The working directory, in which `experiments/` and plug-ins are looked for."""
    sys_path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def apply(self) -> None:
        """Give this process the working directory and the import path of the process that asked.

        Raises:
            UserError: this node does not have the folders of that process.
        """
        node = socket.gethostname()
        try:
            os.chdir(self.folder)
        except OSError as error:
            way_out = f"Clone the project there too, or start from a folder that is shared ({error.strerror})."
            raise UserError("node", node, f"the folder {self.folder} on every node", way_out) from error
        if not self.token.exists():
            way_out = "Set `store` to a folder on a file system that all nodes share."
            raise UserError("node", node, f"the store of {self.token.parent} on every node", way_out)
        sys.path += [entry for entry in self.sys_path if entry not in sys.path]


def _work(run: Callable[[Any], object], name: str, stage: Any, log: Path, setup: WorkerSetup) -> Exception | None:
    """Run one stage in a worker and return its error, or None.

    Only what is no Exception is raised: KeyboardInterrupt, by which Ray cancels a task, and SystemExit, by which a
    worker obeys SIGTERM. The stage is then started elsewhere.
    """
    import ray
    import ray.exceptions

    def send(message: Message | _Started) -> None:
        sent = setup.inbox.put.remote(name, message)
        if not isinstance(message, Report):  # such a message must arrive, and before the end of the stage
            with suppress(ray.exceptions.RayError):
                ray.get(sent, timeout=_GRACE_SECONDS)

    try:
        setup.apply()
    except UserError as error:
        return error
    send(_Started(socket.gethostname()))
    report_to(send, setup.bars)
    # The error is returned, because Ray would wrap one that is raised.
    return worker.run_logged(run, stage, log).error
