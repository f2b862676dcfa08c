"""Write the help of a command: a line for each flag, in two columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from pydantic_core import PydanticUndefined

from distill.cli.flags import Flag, choices, shown
from distill.system.runtime import Runtime

WIDTH = 100
"""Characters of a line."""
_COLUMN = 36
_GROUPS = {
    "Data": ("data.", "transfer_set.", "augment."),
    "Network": ("model.", "init"),
    "Optimiser and schedule": ("optim.", "schedule."),
    "Loss": ("loss.", "smoothing_source"),
}
"""Heading → beginnings of the fields that stand below it."""
_MACHINE = "Machine: nothing here changes a number"
_DAILY = ("store", "data_root", "device", "jobs", "trust")
"""Fields of the machine that the short help explains; it only names the others."""
_SPECIAL = (
    *("loss.labels.", "data.noise", "data.label_noise", "data.split_seed", "schedule.decay", "schedule.parts"),
    *("loss.equivalent_smoothing", "optim.head_lr", "optim.decay_biases", "optim.kwargs", "view_seed"),
)
"""Beginnings of further fields that it only names."""
_SENTENCE = re.compile(r".*?(?<!\bal)[.;](?=\s|$)")


def format_flags(command: str, text: str, flags: Iterable[Flag], in_full: bool = False) -> str:
    """Format the help of a command.

    Args:
        command: its name.
        text: what it does.
        flags: its flags.
        in_full: show all that is known of each flag, and not its first sentence.
    """
    flags = [*flags]
    words = [_positional(each) for each in flags if each.is_positional]
    more = "" if in_full else "   (--help-all says more of each flag)"
    lines = [" ".join(["usage: distill", command, *words, "[flags]"]) + more, *_wrapped(text, "")]
    groups: dict[str, list[Flag]] = {heading: [] for heading in ("", *_GROUPS, "Further", _MACHINE)}
    for each in flags:
        groups[_heading(each)].append(each)
    for heading, members in groups.items():
        told = [each for each in members if in_full or not _is_special(each, heading)]
        lines += [heading] if heading and members else []
        lines += [line for each in told for line in _entry(each, in_full)]
        if rest := [_names(each)[-1] for each in members if each not in told]:
            lines += _wrapped(f"also {', '.join(rest)}", "  ")
    return "\n".join(lines)


def _positional(of: Flag) -> str:
    word = of.field.removesuffix("s").upper() + (" …" if of.items else "")
    return word if of.default is PydanticUndefined else f"[{word}]"


def _heading(of: Flag) -> str:
    """Return the heading below which a flag stands; an empty text for what only this command has."""
    if len(of.keys) > 1 and of.field in Runtime.model_fields:
        return _MACHINE
    for heading, beginnings in _GROUPS.items():
        if of.field.startswith(beginnings):
            return heading
    return "Further" if of.keys[:1] == ("config",) else ""


def _is_special(of: Flag, heading: str) -> bool:
    """Tell whether few people need a flag, so that the short help only names it."""
    return of.field.startswith(_SPECIAL) or (heading == _MACHINE and of.field not in _DAILY)


def _entry(of: Flag, in_full: bool) -> list[str]:
    """Return the lines of a flag: its names and default, and its meaning beside or below."""
    head = f"  {', '.join(_names(of)) or _positional(of)}"
    if of.names and bool not in of.kinds:
        head += f" {shown(of.default) or _type(of)}"
    sentence = _SENTENCE.match(of.about)
    text = of.about if in_full or not sentence else f"{sentence[0][:-1]}."
    if missing := [word for word in choices(of) if word not in text]:
        listed = ", ".join(choices(of))
        text = f"{text.rstrip('.')}: {listed}." if missing else text
    lines = _wrapped(text, " " * _COLUMN)
    if len(head) + 2 > _COLUMN:
        return [head, *lines]
    return [head.ljust(_COLUMN) + "".join(lines[:1]).lstrip(), *lines[1:]]


def _names(of: Flag) -> list[str]:
    """List the names that the help shows: of a switch, the one that changes the default."""
    if bool in of.kinds:
        return of.names[-1:] if of.default else of.names[:1]
    return of.names


def _type(of: Flag) -> str:
    """Return a word for what a flag takes."""
    kinds = of.items or of.kinds
    word = "NAME=VALUE" if dict in kinds else "TEXT"
    for kind, text in ((float, "NUMBER"), (int, "INTEGER"), (Path, "PATH")):
        word = text if kind in kinds else word
    return f"{word} …" if of.items or dict in kinds else word


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - 1, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
