"""Name fields as flags: `optim.lr`, which the library names in its errors, is `--optim.lr` on the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import replace

from distill.errors import UserError
from distill.pipeline.executors.failures import StagesFailed

SHORT = {
    "data.name": "--data",
    "transfer_set.name": "--data",
    "model.name": "--model",
    "schedule.epochs": "--epochs",
    "schedule.batch_size": "--batch-size",
    "optim.lr": "--lr",
    "loss.smoothing": "--smoothing",
    "loss.temperature": "--temperature",
    "loss.alpha": "--alpha",
}
"""Field → its second, shorter flag."""

_FIELD = re.compile(r"`([a-z][\w.]*)(?:=([^`]*))?`")


def flag(field: str, value: str | None = None) -> str:
    """Write a field, or a field with its value, as on the command line: `--data.kwargs '{"size": 64}'`."""
    name = f"--{field.replace('_', '-')}"
    if value is None or value == "True":
        return name
    if value == "False":
        return re.sub(r"^(.*[.]|--)", r"\1no-", name)
    return f"{name} {shlex.quote(value)}"


def name_flags(text: str, fields: Collection[str]) -> str:
    """Replace each field in backticks, with or without a value, by its flag; other text in backticks stays."""

    def shown(match: re.Match[str]) -> str:
        field = _with_flag(match[1], fields)
        return flag(field, match[2]) if field else match[0]

    return _FIELD.sub(shown, text)


def _with_flag(field: str, fields: Collection[str]) -> str | None:
    """Return the field of `fields` that sets a field: itself, or `data` for `data.name` of an experiment's runs."""
    return next((each for each in (field, field.removesuffix(".name")) if each in fields), None)


def error_text(error: Exception, fields: Collection[str]) -> str:
    """Write an error and its notes for the command line: a field is shown as a flag if the command has it."""
    if isinstance(error, StagesFailed):
        failures = error.failures.items()
        told = StagesFailed({name: replace(one, error=_named(one.error, fields)) for name, one in failures})
    else:
        told = _named(error, fields)
    return name_flags("\n".join([str(told), *getattr(error, "__notes__", ())]), fields)


def _named(error: Exception, fields: Collection[str]) -> Exception:
    """Return an error like the given one, in which the wrong field is called by its flag."""
    field = _with_flag(error.field, fields) if isinstance(error, UserError) else None
    if not isinstance(error, UserError) or field is None:
        return error
    return UserError(flag(field), error.value, error.expected, error.way_out)
