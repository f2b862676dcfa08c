"""Run Python commands in children of one process that has imported torch, since a fork takes milliseconds.

A command is the arguments of `python`: a script, or `-m` and a module. A child has the folder, the environment and
the standard input and outputs of who asks. Nothing of the project has run in it, only been imported.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_LONGEST_SECONDS = 120
"""Seconds after which SIGALRM ends a command that hangs."""
_IMPORTED = (
    *(f"distill.cli.{name}" for name in ("main", "artifacts", "networks", "runs", "doctor")),
    *(f"distill.stages.{name}" for name in ("teacher", "cache", "student", "analysis", "calibration", "sweep")),
    *("distill.stages.report", "distill.metrics.diagram", "distill.audit.export", "distill.audit.verify"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "torch.utils.tensorboard.writer"),
    *("torch.export", "torchvision.transforms.v2"),
)
"""Modules that commands import only when they run."""


@contextmanager
def forked_commands() -> Iterator[list[str]]:
    """Start the process, and yield the command line that stands for `python`."""
    here = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket may not be long
        path = f"{folder}/socket"
        serve = [sys.executable, __file__, "serve", path]
        pipe = subprocess.PIPE
        with subprocess.Popen(serve, stdin=pipe, stdout=pipe, text=True, env=os.environ | here) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield [sys.executable, "-I", "-S", __file__, "ask", path]


def _serve(path: str) -> None:
    """Run what is asked until stdin ends, which it does with the process that started this one."""
    for name in _IMPORTED:
        import_module(name)
    sys.dont_write_bytecode = True  # its age is counted in seconds, and a test may edit a module within one
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who has answered
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            asked, _ = server.accept()
            with asked:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    server.close()
                    _answer(asked)


def _answer(asked: socket.socket) -> None:
    """Run the command in a child, answer with its exit code, and end."""
    said, outputs, *_ = socket.recv_fds(asked, 1 << 20, 3)
    child = os.fork()
    if child == 0:
        asked.close()
        for number, output in enumerate(outputs):
            os.dup2(output, number)
            os.close(output)
        _run(**json.loads(said))
    _, status = os.waitpid(child, 0)
    asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    signal.alarm(_LONGEST_SECONDS)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Those of the process that was forked remember what their files could do.
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    is_module = words[0] == "-m"
    sys.path[0] = folder if is_module else str(Path(words[0]).parent.absolute())
    sys.argv = words[is_module:]
    code = 1
    try:
        if is_module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ask(path: str, words: list[str]) -> int:
    order = {"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [json.dumps(order).encode()], [0, 1, 2])
        code = int(server.recv(16) or b"70")  # nothing: whoever waits for the command is gone
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    role, path, *words = sys.argv[1:]
    if role == "serve":
        _serve(path)
        os._exit(0)  # taking down what was imported takes seconds
    sys.exit(_ask(path, words))
