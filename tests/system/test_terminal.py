"""Test that a text reaches a stream of any encoding, and that a stream that cannot be written ends no work."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from distill.system import terminal

pytestmark = pytest.mark.fault("other encodings, closed streams")

TEXT = "ε = 0.1 → 93 ± 1 × Müller ŷ\udcff"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "ε = 0.1 → 93 ± 1 × Müller ŷ".encode()),
        ("latin-1", "epsilon = 0.1 -> 93 ± 1 × Müller \\u0177".encode("latin-1")),
        ("cp1252", "epsilon = 0.1 -> 93 ± 1 × Müller \\u0177".encode("cp1252")),
        ("ascii", rb"epsilon = 0.1 -> 93 +- 1 x M\xfcller \u0177"),
    ],
)
def test_a_terminal_of_any_encoding_takes_every_text(
    encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    terminal.prepare()
    print(TEXT, end="", flush=True)
    assert out.buffer.getvalue() == shown + b"\xff", "a name that is no text keeps its bytes, so that it is found"


COMMAND = f"{sys.executable} -m distill"


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (f"{COMMAND} --help >&- 2>&- <&-", 0, ""),
        (f"{COMMAND} nonsense 2>/dev/full", 2, ""),
        (f"{COMMAND} --help >/dev/full", 2, "error: stdout; what was made is kept: No space left on device\n"),
        (f"({COMMAND} --help; echo $? >&2) | true", 0, "1\n"),
    ],
)
def test_a_closed_or_full_stream_gives_no_traceback(line: str, code: int, says: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(line, shell=True, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (code, says)


def test_a_closed_stdout_stays_closed_for_children() -> None:
    """Else a child, such as a worker of the pool, would have no stdout, and its first file would be its stdout."""
    child = "import sys; sys.exit(sys.stdout is None)"
    code = "import subprocess, sys; from distill.system import terminal; terminal.prepare(); "
    code += f'sys.exit(subprocess.call([sys.executable, "-c", "{child}"]))'
    environment = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run(f"{sys.executable} -c '{code}' >&-", shell=True, env=environment).returncode == 0
