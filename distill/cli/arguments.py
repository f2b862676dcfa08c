"""Define the arguments that several commands take, and print their output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import tyro

from distill.cli.flag_names import UNPREFIXED, error_text
from distill.errors import UserError, printable
from distill.system.runtime import Folders, Runtime

ArtifactName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="Path of an artifact, or its key.")]
ArtifactNames = Annotated[
    tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="Paths or keys; none means all.")
]
# These two have no defaults here: their models make them when a command runs, not when this file is read.
FolderFlags = Annotated[Folders, UNPREFIXED]
RuntimeFlags = Annotated[Runtime, UNPREFIXED]


def print_lines(text: str) -> None:
    """Print lines that may hold text of other people, with escapes for what a terminal would obey."""
    print(*map(printable, text.split("\n")), sep="\n")


def print_skipped(skipped: Mapping[str, UserError], fields: Collection[str]) -> None:
    """Print one line per experiment that was left out, with the reason, in which fields are flags."""
    for name, reason in skipped.items():
        print(f"skipped      {name}: {error_text(reason, fields, fields)}")
