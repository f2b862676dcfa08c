"""Join a Ray cluster or start one, and check that it has a node large enough for a stage."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from distill.errors import UserError
from distill.pipeline.executors.signals import signals_raise
from distill.system.progress import tell

RETRIES = 3
"""Number of times that a stage is started again because its worker or node died."""
_OLDEST = (2, 52)
"""First version of Ray that asks for a token."""
_INSTALL = 'pip install "ray>=2.52,<2.61"'  # the versions of pyproject.toml
_PATIENCE_SECONDS = 10.0
"""Seconds that a cluster may take to answer at all."""
# About the least that Ray accepts; little is needed, because results lie in files.
_OBJECT_STORE_BYTES = 80 << 20


def import_ray() -> ModuleType:
    """Import Ray, with settings that are safe for stages.

    Raises:
        UserError: Ray is not installed, or too old to refuse whoever has no token.
    """
    # Ray must not send usage statistics to its makers. Under `uv run` Ray would copy the working directory, data
    # and artifacts included, to every node. And a task that is killed for lack of memory would be started again
    # for ever.
    for name, value in {
        "USAGE_STATS_ENABLED": 0,
        "ENABLE_UV_RUN_RUNTIME_ENV": 0,
        "task_oom_retries": RETRIES,
        "AUTH_MODE": "token",  # a cluster runs the code of whoever it listens to
    }.items():
        os.environ.setdefault(f"RAY_{name}", str(value))
    try:
        import ray
    except ImportError as error:
        way_out = f"Run `{_INSTALL}`, or set `executor=pool`."
        raise UserError("executor", "ray", "Ray, which is not installed", way_out) from error
    if tuple(map(int, ray.__version__.split(".")[:2])) < _OLDEST:
        expected = f"Ray {'.'.join(map(str, _OLDEST))} or later, which refuses whoever has no token"
        raise UserError("executor", f"Ray {ray.__version__}", expected, f"Run `{_INSTALL}`.")
    if not ray.is_initialized():
        private: Any = ray
        private._raylet.Config.initialize("")  # it may have been imported before these settings were made
    return ray


@contextmanager
def connection(ray: ModuleType, address: str | None) -> Iterator[None]:
    """Join the cluster at `address`, or start one that ends with the block; an existing connection is reused."""
    if ray.is_initialized():
        yield
        return
    with signals_raise(), silenced(ray):  # Ray sets its own SIGTERM handler; this one is restored at the end
        try:
            connect(ray, address)
            yield
        except SystemExit:  # Ray changes the exit code
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:
            ray.shutdown()


def connect(ray: ModuleType, address: str | None) -> None:
    """Join the cluster at `address`, or start a local one if it is None.

    Raises:
        UserError: there is no cluster at this address.
    """
    # "local", because without an address Ray would join whatever cluster it finds on this machine.
    local = {"address": "local", "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    where = local if address is None else {"address": address}
    try:
        _check_that_somebody_listens(address or "")
        # Ray lets workers import from the working directory before all else: let it be the folder of this package.
        with chdir(Path(__file__).parents[3]), nullcontext() if address else _for_this_machine(ray), _no_hangup():
            ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if address is None:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        way_out = f"`ray start --head` starts one and says its address ({reason})."
        raise UserError("address", address, "the address of a Ray cluster that runs", way_out) from error


@contextmanager
def _for_this_machine(ray: ModuleType) -> Iterator[None]:
    """Let a cluster that is started in the block listen to this machine alone, and to whoever knows its token."""
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ}:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray writes one into a file that all can read
    # No argument does this: Ray replaces 127.0.0.1 by an address that others reach, unless it starts one node only.
    private: Any = ray._private.ray_constants
    before = private.ENABLE_RAY_CLUSTER
    private.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        private.ENABLE_RAY_CLUSTER = before


@contextmanager
def _no_hangup() -> Iterator[None]:
    """Start processes inside the block that do not hear a closed terminal, as Ray's do not hear Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_that_somebody_listens(address: str) -> None:
    """Raise an OSError if nobody listens at HOST:PORT."""
    # Ray itself would try for a quarter of an hour.
    host, _, port = address.rpartition(":")
    if host and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_SECONDS).close()


@contextmanager
def silenced(ray: ModuleType) -> Iterator[None]:
    """Keep Ray from printing the log of a dead node to stdout."""
    # No setting of Ray does this.
    private: Any = ray._private.worker
    before = private.listen_error_messages
    private.listen_error_messages = lambda *_, **__: None
    try:
        yield
    finally:
        private.listen_error_messages = before


class SizeCheck:
    """Check that some node of the cluster is large enough for a stage.

    Args:
        ray: the module.
        cpus: cores that a stage asks for.
        gpus: GPUs that a stage asks for, or a share of one.
        may_grow: whether the cluster may still get larger nodes.
    """

    def __init__(self, ray: ModuleType, cpus: int, gpus: float, may_grow: bool):
        self._ray, self._cpus, self._gpus, self._may_grow = ray, cpus, gpus, may_grow
        self._told = False

    def run(self) -> None:
        """Raise an error if no node is large enough; if the cluster can grow, print once that the stage waits.

        Raises:
            UserError: no node is large enough, and the cluster cannot grow.
        """
        # Ray itself would wait for a larger node without a word.
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= self._cpus and node.get("GPU", 0) >= self._gpus for node in nodes):
            return
        sizes = sorted({f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes})
        error = UserError(
            "threads, gpus",
            f"{self._cpus} and {self._gpus:g}",
            f"no more than the CPUs and GPUs of a node ({'; '.join(sizes) or 'there is no node'})",
            "Lower `threads` or `gpus`.",
        )
        if not self._may_grow:
            raise error
        if not self._told:
            tell(f"waiting for a larger node: {error}")
            self._told = True
