"""Say what was probably meant by a command or a flag that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from distill.errors import UserError

if TYPE_CHECKING:
    from distill.cli.commands import Command

MOST = 3
"""Largest number of hints."""
_COMMANDS = {"train": ("teacher", "student"), "distil": ("student",), "sweep": ("sweep-smoothing",)}
"""Word that people try as a command → commands that do this."""
_FLAGS = {
    "label-smoothing": "loss.smoothing",
    "smoothing": "smoothings",
    "learning-rate": "optim.lr",
    "network": "model.name",
    "dataset": "data.name",
    "tau": "loss.temperature",
}
"""Word that people try as a flag → the field that it means."""


def unknown_command(name: str) -> UserError:
    """Return the error for a command that does not exist."""
    from distill.cli.commands import COMMANDS

    close = _COMMANDS.get(name) or difflib.get_close_matches(name, COMMANDS, MOST)
    way_out = f"Close to it: {', '.join(close)}." if close else "`distill --help` lists them."
    return UserError("command", name, "a command of distill", way_out)


def unknown_flag(name: str, command: str) -> UserError:
    """Return the error for a flag that a command does not have."""
    from distill.cli.commands import COMMANDS

    return UserError("flag", name, f"a flag of `distill {command}`", _way_out(name, command, COMMANDS))


def close_fields(word: str, fields: Iterable[str]) -> list[str]:
    """Return the fields that a wrong name probably means, the best first: by their last part, else by spelling."""
    fields = [*fields]
    word = word.lower().replace("-", "_")
    exact = [each for each in fields if each == word or each.rpartition(".")[2] == word.rpartition(".")[2]]
    if exact:
        return exact[:MOST]
    by_part = {each.rpartition(".")[2]: each for each in fields} | {each: each for each in fields}
    close = difflib.get_close_matches(word, by_part, MOST, 0.7)
    return [*dict.fromkeys(by_part[each] for each in close)]


def _way_out(name: str, command: str, commands: Mapping[str, Command]) -> str:
    """Say what to do about a flag that a command does not have."""
    from distill.cli.flag_names import flag

    word = name.lstrip("-")
    if word in ("pretrained", "checkpoint", "weights") and command in ("teacher", "cache", "student"):
        begin = "" if command == "cache" else ", or train on from them: `init`"
        return f"Adopt weights from elsewhere first: `distill adopt --help`{begin}."
    if command == "student" and word == "teacher":
        return "A student reads a cache: make one with `distill cache --teacher …`, and name it with `cache`."
    own = sorted(commands[command].fields)
    tried = _FLAGS.get(next(iter(difflib.get_close_matches(word, _FLAGS, 1, 0.8)), ""))
    exact = [each for each in own if each.rpartition(".")[2] == word.replace("-", "_")]
    if tried in own or exact:
        return f"Perhaps you meant: {', '.join(map(flag, exact[:MOST] or [str(tried)]))}."
    if has_it := [each.name for each in commands.values() if any(name in one.names for one in each.flags)]:
        return f"It is a flag of {', '.join(f'`distill {each}`' for each in has_it[:MOST])}."
    if close := close_fields(word, own):
        return f"Perhaps you meant: {', '.join(map(flag, close))}."
    return f"`distill {command} --help` lists them."
