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


def typed_fields(what: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and type of each field of a class, or parameter of a function, that the parser makes flags of."""
    if not (isinstance(what, type) and issubclass(what, BaseModel)):
        hints = typing.get_type_hints(what, include_extras=True)
        yield from ((name, hint) for name, hint in hints.items() if name != "return")
        return
    for name, field in what.model_fields.items():
        kinds = typing.get_args(field.annotation) or (field.annotation,)
        # Configs of stages are inputs, and digests are filled in later.
        if name not in ("stage", "content") and not any(getattr(kind, "place", None) == "" for kind in kinds):
            yield name, field.annotation


def fields_of(what: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name, such as `optim.lr`, of every field or parameter that has a flag, nested or not."""
    for name, annotation in typed_fields(what):
        about = getattr(annotation, "__metadata__", ())
        if UNPREFIXED in about:
            yield from fields_of(annotation.__origin__, prefix)
        elif isinstance(annotation, type) and issubclass(annotation, Config):
            yield from fields_of(annotation, f"{prefix}{name}.")
        elif tyro.conf.Positional not in about and typing.get_origin(annotation) is not typing.ClassVar:
            yield f"{prefix}{name}"


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
