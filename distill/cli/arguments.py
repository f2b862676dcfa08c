"""Define the arguments that several commands share, and print the output of commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import tyro

from distill.cli.flag_names import UNPREFIXED, fields_of, name_flags
from distill.errors import printable
from distill.system.runtime import Folders, Runtime

ArtifactName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="Path of an artifact, or its key.")]
ArtifactNames = Annotated[
    tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="Paths or keys; none means all.")
]
# These two have no defaults here: their models make them when a command runs, not when this file is read.
FolderFlags = Annotated[Folders, UNPREFIXED]
RuntimeFlags = Annotated[Runtime, UNPREFIXED]


def print_lines(text: str, command: Callable[..., None] | None = None) -> None:
    """Print lines that may hold text from other people, with terminal control characters escaped.

    Args:
        text: the lines.
        command: function of a command; fields in backticks that have a flag of it are shown as this flag.
    """
    text = name_flags(text, {*fields_of(command)}) if command else text
    print(*map(printable, text.split("\n")), sep="\n")
