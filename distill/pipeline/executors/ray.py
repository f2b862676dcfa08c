"""Run the stages of a graph as tasks of a Ray cluster whose nodes share the folder of the store.

Ray finds a node with room for each stage. When a worker or its node dies, Ray starts the stage again, on that node
or another. The stage goes on from what was saved last in its draft in the store. The lock of the draft keeps a
worker that only seems dead from writing beside its successor.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tqdm import tqdm

from distill.errors import UserError
from distill.pipeline.executors import worker
from distill.pipeline.executors.failures import Failure, log_file
from distill.pipeline.executors.signals import sigterm_exits
from distill.pipeline.executors.waiting import Graph, Work
from distill.system.progress import Lines, Message, Report, Warned, report_to
from distill.training.tracking import warn

_RETRIES = 3
"""Number of times that a stage is started again because its worker or node died."""
_GRACE_SECONDS = 30.0
"""Seconds that running stages may take to save their state after an interrupt; a second interrupt does not wait."""
_POLL_SECONDS = 0.5
_POLITE_SECONDS = 10.0
"""Seconds that a cluster may take to answer at all."""
# About the least that Ray accepts; little is needed, because results lie in files.
_OBJECTS = 80 << 20
"""Bytes of the object store of a local cluster."""


def run_ray(
    stages: Mapping[str, Work],
    needs: Mapping[str, Sequence[str]],
    run: Callable[[Work], object],
    logs: Path,
    address: str | None = None,
    cpus: int = 1,
    gpus: float | None = None,
    jobs: int | None = None,
    show: bool = False,
    done: Callable[[str], object] = lambda _: None,
) -> dict[str, Failure]:
    """Run every stage after its inputs, as many at a time as fit; a failure costs only the stages that need it.

    Args:
        stages: name → stage, the most wanted first; stages are pickled on their way to a worker.
        needs: name → names of its inputs; names that are not in `stages` are taken to exist.
        run: function that runs one stage, in a worker; it may be called again after a kill at any moment.
        logs: absolute path of a folder in the store, for the output of workers, and for the tracebacks of errors
            that are no user's mistakes.
        address: address of the cluster to join; None starts a cluster on this machine, and ends it.
        cpus: cores that a stage asks for.
        gpus: GPUs that a stage asks for, or a share of one; None asks for one if the cluster has any.
        jobs: number of stages that may run at a time; None leaves it to the room in the cluster.
        show: whether to show a line for each running stage and one for all, if there is a terminal.
        done: function that is called with the name of each finished stage.

    Returns:
        The failures: name of a failed stage → why it failed.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or it has no node that could run a stage.
        KeyboardInterrupt, SystemExit: on SIGINT or SIGTERM. Stages that have not started are dropped, training
            networks save their state and stop, and finished stages are kept.
    """
    if gpus is not None and gpus > 1 and gpus % 1:
        raise UserError("gpus", gpus, "a share of one GPU, or a whole number of them", "Set it to 1 or less.")
    ray = _import_ray()
    graph = Graph(stages, needs)
    if not graph.open:
        return {}
    with _connected(ray, address), sigterm_exits(), _token(logs) as token, Lines(len(stages), show) as lines:
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        room = _Room(ray, cpus, gpus, may_grow=address is not None)
        room.check()
        inbox = ray.remote(_Inbox).options(num_cpus=0, scheduling_strategy=_here(ray)).remote()
        desk = _Desk(inbox, token, lines.shown)
        task = ray.remote(_work).options(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES)
        pending: dict[Any, str] = {}
        started: set[str] = set()
        try:
            while graph.open:
                for name in graph.ready()[: None if jobs is None else jobs - len(pending)]:
                    reference = task.remote(run, name, graph.start(name), log_file(logs, name), desk)
                    pending[reference] = name
                finished, _ = ray.wait(list(pending), num_returns=1, timeout=_POLL_SECONDS)
                for name, message in _taken(ray, inbox):
                    _tell(name, message, name in started, lines)
                    started.add(name)
                for name, error in [(pending.pop(each), _error(ray, each)) for each in finished]:
                    if error is None:
                        graph.finish(name)
                        done(name)
                    else:
                        log = log_file(logs, name)
                        graph.fail(name, error, log if log.is_file() and log.stat().st_size else None)
                    lines.end(name, len(graph.failures))
                if not graph.running & started:
                    room.check()
        except BaseException:
            _cancel(ray, list(pending))
            raise
    return graph.failures


def _import_ray() -> ModuleType:
    # Ray must not send usage statistics to its makers. Under `uv run` Ray would copy the working directory, data
    # and artifacts included, to every node. And a task that is killed for lack of memory would be started again
    # for ever.
    for name, value in {
        "USAGE_STATS_ENABLED": 0,
        "ENABLE_UV_RUN_RUNTIME_ENV": 0,
        "task_oom_retries": _RETRIES,
    }.items():
        os.environ.setdefault(f"RAY_{name}", str(value))
    try:
        import ray
    except ImportError as error:
        way_out = "pip install 'distill-dark-knowledge[ray]', or take --executor pool."
        raise UserError("executor", "ray", "Ray, which is not installed", way_out) from error
    return ray


@contextmanager
def _connected(ray: ModuleType, address: str | None) -> Iterator[None]:
    """Join the cluster at `address`, or start one that ends with the block; an existing connection is reused."""
    if ray.is_initialized():
        yield
        return
    with sigterm_exits(), _quiet(ray):  # Ray sets its own SIGTERM handler; this one is restored at the end
        try:
            _init(ray, address)
            yield
        except SystemExit:  # Ray changes the exit code
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:
            ray.shutdown()


def _init(ray: ModuleType, address: str | None) -> None:
    # "local", because without an address Ray would join whatever cluster it finds on this machine.
    local = {"address": "local", "include_dashboard": False, "object_store_memory": _OBJECTS}
    where = local if address is None else {"address": address}
    try:
        _knock(address or "")
        ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, TimeoutError, socket.gaierror, RuntimeError, ValueError) as error:
        if address is None:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        way_out = f"`ray start --head` starts one and says its address ({reason})."
        raise UserError("address", address, "the address of a Ray cluster that runs", way_out) from error


def _knock(address: str) -> None:
    """Raise an OSError if nobody listens at HOST:PORT."""
    # Ray itself would try for a quarter of an hour.
    host, _, port = address.rpartition(":")
    if host and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), _POLITE_SECONDS).close()


@contextmanager
def _quiet(ray: ModuleType) -> Iterator[None]:
    """Keep Ray from printing the log of a dead node to stdout."""
    # No setting of Ray does this.
    private: Any = ray._private.worker
    before = private.listen_error_messages
    private.listen_error_messages = lambda *_, **__: None
    try:
        yield
    finally:
        private.listen_error_messages = before


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    token = folder / f"{uuid.uuid4().hex}.token"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = token.open("xb")
    except OSError as error:
        way_out = "Set --store or DISTILL_STORE to another folder."
        raise UserError(
            "store", str(folder), f"a folder that can be written ({error.strerror})", way_out
        ) from error
    with file:
        try:
            with suppress(OSError):  # on a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)  # shows `distill gc` that this process lives
            yield token
        finally:
            with suppress(OSError):
                token.unlink()


class _Room:
    """A check that some node of the cluster is large enough for a stage."""

    def __init__(self, ray: ModuleType, cpus: int, gpus: float, may_grow: bool):
        self.ray, self.cpus, self.gpus, self.may_grow = ray, cpus, gpus, may_grow
        self.told = False

    def check(self) -> None:
        """Raise an error if no node is large enough; say once if the cluster can still grow.

        Raises:
            UserError: no node is large enough, and the cluster cannot grow.
        """
        # Ray itself would wait for a larger node without a word.
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in nodes):
            return
        sizes = sorted({f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes})
        error = UserError(
            "threads, gpus",
            f"{self.cpus} and {self.gpus:g}",
            f"no more than the CPUs and GPUs of a node ({'; '.join(sizes) or 'there is no node'})",
            "Lower --threads or --gpus.",
        )
        if not self.may_grow:
            raise error
        if not self.told:
            _say(f"waiting for a larger node: {error}")
            self.told = True


class _Started(NamedTuple):
    """The first message of a worker about a stage."""

    node: str


class _Inbox:
    """An actor that holds the messages of workers until it is asked for them."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, Message | _Started]] = []

    def put(self, name: str, message: Message | _Started) -> None:
        self._messages.append((name, message))

    def take(self) -> list[tuple[str, Message | _Started]]:
        taken, self._messages = self._messages, []
        return taken


def _here(ray: ModuleType) -> Any:
    """Return the scheduling strategy that keeps an actor on the node of this process."""
    # An actor on another node may die with that node.
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)


def _taken(ray: ModuleType, inbox: Any) -> list[tuple[str, Message | _Started]]:
    try:
        return ray.get(inbox.take.remote())
    except ray.exceptions.RayError:  # the node of the inbox died: the stages go on without reports
        return []


def _tell(name: str, message: Message | _Started, again: bool, lines: Lines) -> None:
    match message:
        case Report() as report:
            lines.show(name, report)
        case Warned(kind, text):
            warn(kind, text)
        case _Started(node) if again:
            _say(f"{name}: its worker died; it goes on from what was saved last, on {node}")
        case _Started():
            lines.start(name)


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)  # above the lines of the stages


def _error(ray: ModuleType, reference: Any) -> Exception | None:
    """Return the error in which a finished task ended; None when its artifact was made."""
    try:
        return ray.get(reference)
    except ray.exceptions.OutOfMemoryError:
        expected = f"a worker that lives (node out of memory, {_RETRIES + 1} times)"
        return UserError("worker", "killed", expected, "Raise --threads, so that fewer stages share a node.")
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError):
        expected = f"a worker that lives (it died {_RETRIES + 1} times)"
        way_out = "It may have run out of memory: raise --threads. Run the same command again to go on."
        return UserError("worker", "killed", expected, way_out)
    except ray.exceptions.RayTaskError as error:  # the task failed before the stage began
        reason = (str(error.cause).strip() or type(error.cause).__name__).splitlines()[-1]
        way_out = "Install the same packages on all nodes, and start Ray with the Python that has them."
        return UserError("worker", reason, "a node with the packages of this one", way_out)
    except ray.exceptions.RayError as error:
        return error


def _cancel(ray: ModuleType, references: list[Any]) -> None:
    """Tell running stages to save their state, drop waiting stages, and wait until all have ended."""
    with suppress(ray.exceptions.RayError):
        for reference in references:
            ray.cancel(reference)
        if references:
            ray.wait(references, num_returns=len(references), timeout=_GRACE_SECONDS)


@dataclass(frozen=True)
class _Desk:
    """The settings with which a worker works as if it were the process that asked."""

    inbox: Any
    token: Path
    """A file in the store, which a node sees only if it shares the store."""
    bars: bool
    folder: Path = field(default_factory=Path.cwd)
    """The working directory, in which `experiments/` and plug-ins are looked for."""
    sys_path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def sit_down(self) -> None:
        """Give the worker the working directory and the import path of the process that asked.

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
            way_out = "Set --store to a folder on a file system that all nodes share."
            raise UserError("node", node, f"the store of {self.token.parent} on every node", way_out)
        sys.path += [entry for entry in self.sys_path if entry not in sys.path]


def _work(run: Callable[[Any], object], name: str, stage: Any, log: Path, desk: _Desk) -> Exception | None:
    """Run one stage in a worker and return its error, or None.

    Only what is no Exception is raised: KeyboardInterrupt, by which Ray cancels a task, and SystemExit, by which a
    worker obeys SIGTERM. The stage is then started elsewhere.
    """
    import ray
    import ray.exceptions

    def send(message: Message | _Started) -> None:
        sent = desk.inbox.put.remote(name, message)
        if not isinstance(message, Report):  # such a message must arrive, and before the end of the stage
            with suppress(ray.exceptions.RayError):
                ray.get(sent, timeout=_GRACE_SECONDS)

    try:
        desk.sit_down()
    except UserError as error:
        return error
    send(_Started(socket.gethostname()))
    report_to(send, desk.bars)
    # The error is returned, because Ray would wrap one that is raised.
    return worker.run_logged(run, stage, log).error
