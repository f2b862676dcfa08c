"""Name fields as flags: `optim.lr`, which the library names in its errors, is `--optim.lr` on the command line."""

from __future__ import annotations

import re
import shlex
import typing
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import tyro
from pydantic import BaseModel

from distill.config import Config
from distill.errors import UserError
from distill.pipeline.executors.failures import StagesFailed

UNPREFIXED = tyro.conf.arg(name="")
"""Annotation of a field or parameter that has flags inside: their names do not begin with its own name."""

SHORT = {"loss.smoothing": "--smoothing"}
"""Field → its second, shorter flag."""

_FIELD = re.compile(r"`([a-z][\w.]*)(?:=([^`]*))?`")


def fields_of(what: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of each field of a class, or parameter of a function, that has a flag.

    Args:
        what: config, dataclass or function that the parser makes flags of.
        prefix: text in front of each name.
    """
    if isinstance(what, type) and issubclass(what, BaseModel):
        annotations: dict[str, Any] = {name: field.annotation for name, field in what.model_fields.items()}
    else:
        annotations = typing.get_type_hints(what, include_extras=True)
    for name, annotation in annotations.items():
        about = getattr(annotation, "__metadata__", ())
        if UNPREFIXED in about:
            yield from fields_of(annotation.__origin__, prefix)
        elif isinstance(annotation, type) and issubclass(annotation, Config):
            yield from fields_of(annotation, f"{prefix}{name}.")
        elif tyro.conf.Positional not in about and name not in ("stage", "return"):
            yield f"{prefix}{name}"


def flag(field: str, value: str | None = None) -> str:
    """Write a field, or a field and its value, as on the command line: `--data.kwargs '{"size": 64}'`."""
    name = f"--{field.replace('_', '-')}"
    if value is None or value == "True":
        return name
    if value == "False":
        return re.sub(r"^(.*[.]|--)", r"\1no-", name)
    words = re.split(r",\s*", value.strip("()")) if value.startswith("(") else [value]
    return f"{name} {shlex.join(words)}"


def name_flags(text: str, fields: Collection[str]) -> str:
    """Replace each field in backticks, with or without a value, by its flag; other text in backticks stays."""
    return _FIELD.sub(lambda match: flag(*match.groups()) if match[1] in fields else match[0], text)


def error_text(error: Exception, own: Collection[str], known: Collection[str]) -> str:
    """Write an error and its notes as lines in which fields are flags.

    Args:
        error: error of the library.
        own: fields that have a flag of the command; a mistake in one of them is called by its flag.
        known: fields that are called by their flags in the way out.
    """
    if isinstance(error, StagesFailed):
        failures = {
            name: replace(one, error=_called_by_flag(one.error, own)) for name, one in error.failures.items()
        }
        error = StagesFailed(failures)
    lines = [str(_called_by_flag(error, own)), *getattr(error, "__notes__", ())]
    return name_flags("\n".join(lines), known)


def _called_by_flag(error: Exception, own: Collection[str]) -> Exception:
    """Return an error like this one that calls the field by its flag."""
    if not isinstance(error, UserError) or error.field not in own:
        return error
    return UserError(flag(error.field), error.value, error.expected, error.way_out)
