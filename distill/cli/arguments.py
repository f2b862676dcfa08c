"""Arguments that several subcommands take, and how their output is printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import tyro

from distill.errors import UserError, printable
from distill.system.runtime import Folders, Runtime

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="Path of an artifact, or its key.")]


Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="Paths or keys; none means all.")]


# Their defaults are the models' own, made when a command runs and not when this file is read.
Where = Annotated[Folders, tyro.conf.arg(name="")]


How = Annotated[Runtime, tyro.conf.arg(name="")]


def print_lines(text: str) -> None:
    """Print lines in which words of somebody else may stand, without what a terminal would obey."""
    print(*map(printable, text.split("\n")), sep="\n")


def print_skipped(skipped: Mapping[str, UserError]) -> None:
    """Print why experiments were left out, a line each."""
    for name, reason in skipped.items():
        print(f"skipped      {name}: {reason}")
