"""Make stdout and stderr take every text: in any encoding, and although they may be closed or full."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

_PLAIN = {
    **{"→": "->", "←": "<-", "×": "x", "±": "+-", "−": "-", "–": "-", "…": "...", "·": "*", "≤": "<=", "≠": "!="},
    **{"α": "alpha", "ε": "epsilon", "λ": "lambda", "μ": "mu", "σ": "sigma", "Σ": "sum", "√": "sqrt ", "²": "^2"},
}
"""Characters that help, tables and errors use → what stands for them where an encoding lacks them."""


def prepare() -> None:
    """Give this process a stdout and a stderr that refuse no character and are open."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would take the number, and all output with it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open until the end
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace the first character of an error of `str.encode` by what the encoding has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name, as Python decodes what is not text
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode(), error.start + 1


def flush(stream: TextIO) -> bool:
    """Write what a stream holds, and return whether it could; if not, it takes and loses all that follows."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError):  # Python flushes it again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True
