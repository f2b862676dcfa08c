"""Parse the flags of every command; flags are made from configs, dataclasses and parameters of functions."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any

import tyro
from pydantic import ValidationError
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from distill.cli.flag_names import SHORT, typed_fields
from distill.config import Config
from distill.config.base import invalid
from distill.errors import UserError
from distill.system import trust
from distill.system.reading import load_json


def parse(what: Any, arguments: list[str], command: str, left_out: Collection[str] = (), **options: Any) -> Any:
    """Parse the flags of a command, and return the object that `what` makes of them.

    Args:
        what: class or function; its fields or parameters are the flags, its docstring is the help.
        arguments: arguments of the command line.
        command: name of the command.
        left_out: dotted names of config fields that get no flag and keep their default.
        options: `return_unknown_args=True` returns the object and the arguments that `what` does not know.

    Raises:
        UserError: a flag is unknown, missing or of the wrong type.
    """
    registry = ConstructorRegistry()
    registry.primitive_rule(_json_object)
    registry.struct_rule(functools.partial(_flags_of_config, left_out))
    told = io.StringIO()
    for plugin in _named_plugins(arguments):
        trust.name(plugin)
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(what, args=arguments, prog=f"distill {command}", registry=registry, **options)
    except ValidationError as error:  # of the runtime settings
        raise invalid(error, "", f"See distill {command} --help.") from error
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro draws a box around its error, of ASCII on some terminals; our errors are one line.
        drawn = r"[─-╿]|^[|+]-?|[|+]$|-{9,}|For full helptext.*"
        words = re.sub(drawn, " ", told.getvalue(), flags=re.DOTALL | re.MULTILINE).split()
        line = re.sub(
            r"^.*?(error|options|choice|argument) (?=Error|Unrecognized|Missing|invalid)", "", " ".join(words)
        )
        way_out = f"{line.rstrip('.')}. See distill {command} --help."
        raise UserError("arguments", " ".join(arguments), f"the flags of distill {command}", way_out) from stop


def _named_plugins(arguments: list[str]) -> Iterator[str]:
    """Yield the values of flags that may name a plug-in, such as --model.name, --augment.program and --data."""
    for word, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = word.partition("=")
        if name == "--data" or (name.startswith("--") and name.rpartition(".")[2] in ("name", "program")):
            yield value if equals else following


def _flags_of_config(left_out: Collection[str], info: StructTypeInfo) -> StructConstructorSpec | None:
    """Make a flag for each field of a config, except those in `left_out` and inputs, which have their own flags."""
    kind = info.type
    if not (isinstance(kind, type) and issubclass(kind, Config)):
        return None
    default: dict[str, Any] = {name: field.get_default() for name, field in kind.model_fields.items()}
    default |= dict(info.default) if isinstance(info.default, Config) else {}
    flags: list[StructFieldSpec] = []
    for name, annotation in typed_fields(kind):
        path = f"{kind.place}{name}"
        if path not in left_out:
            typed: Any = Annotated[annotation, tyro.conf.arg(aliases=[SHORT[path]] if path in SHORT else None)]
            flags.append(StructFieldSpec(name, typed, default[name], kind.model_fields[name].description))
    kept = {name: default[name] for name in default.keys() - {flag.name for flag in flags}}
    # A part of a config becomes a dict: it is validated with the whole, whose errors then have whole paths.
    make = dict if kind.place else kind

    def from_flags(**given: Any) -> Any:
        renamed = any(given.get(name) != default.get(name) for name in ("name", "program"))
        # A digest is that of what the default names.
        return make(**kept | ({"content": None} if renamed and "content" in kept else {}), **given)

    return StructConstructorSpec(from_flags, tuple(flags))


def _json_object(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type_origin is not dict:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_parse_json_object,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _parse_json_object(words: list[str]) -> dict[str, Any]:
    # The parser says of which flag.
    try:
        value = load_json(words[0])
    except ValueError as error:
        raise ValueError(f"""not a JSON object, such as '{{"name": 1}}', but {error}""") from error
    if not isinstance(value, dict):
        raise ValueError("""not a JSON object, such as '{"name": 1}'""")
    return value
