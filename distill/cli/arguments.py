"""Define the arguments that several subcommands take, and print their output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import tyro

from distill.errors import UserError, printable
from distill.system.runtime import Folders, Runtime

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="Path of an artifact, or its key.")]


Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="Paths or keys; none means all.")]


# `Where` and `How` have no defaults here: their models make them when a command runs, not when this file is read.
Where = Annotated[Folders, tyro.conf.arg(name="")]


How = Annotated[Runtime, tyro.conf.arg(name="")]


def print_lines(text: str) -> None:
    """Print lines that may hold text of other people, with escapes for what a terminal would obey."""
    print(*map(printable, text.split("\n")), sep="\n")


def print_skipped(skipped: Mapping[str, UserError]) -> None:
    """Print one line per experiment that was left out, with the reason."""
    for name, reason in skipped.items():
        print(f"skipped      {name}: {reason}")
