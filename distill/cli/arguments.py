"""Define the arguments that several commands share, and print the output of commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from distill.cli.flag_names import name_flags
from distill.cli.flags import Mark, flags_of, model_of
from distill.errors import printable
from distill.system.runtime import Folders, Runtime

ArtifactName = Annotated[str, Mark.POSITIONAL]
ArtifactNames = Annotated[tuple[str, ...], Mark.POSITIONAL]
# These two have no defaults here: their models make them when a command runs, not when this file is read.
FolderFlags = Annotated[Folders, Mark.UNPREFIXED]
RuntimeFlags = Annotated[Runtime, Mark.UNPREFIXED]


def print_lines(text: str, command: Callable[..., None] | None = None) -> None:
    """Print lines that may hold text from other people, with terminal control characters escaped.

    Args:
        text: the lines.
        command: function of a command; fields in backticks that have a flag of it are shown as this flag.
    """
    text = name_flags(text, {each.field for each in flags_of(model_of(command))}) if command else text
    print(*map(printable, text.split("\n")), sep="\n")
