"""Parse the flags of every command; flags are made from configs, dataclasses and parameters of functions."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from distill.cli.flag_names import SHORT
from distill.config import Config
from distill.errors import UserError
from distill.system import trust

_Parsed = TypeVar("_Parsed")

LeftOut = Mapping[type[Config], tuple[str, ...]]
"""Class of config → its fields that a command has no flags for; they keep the values of the defaults."""


def parse(
    what: Callable[..., _Parsed],
    arguments: list[str],
    command: str,
    left_out: LeftOut | None = None,
    **options: bool,
) -> _Parsed:
    """Parse the flags of a command, and return the object that `what` makes of them.

    Args:
        what: class or function; its fields or parameters are the flags, its docstring is the help.
        arguments: arguments of the command line.
        command: name of the command.
        left_out: fields of configs that get no flags.
        options: `return_unknown_args=True` returns the arguments that `what` does not know too.

    Raises:
        UserError: a flag is unknown, missing or of the wrong type.
    """
    registry = ConstructorRegistry()
    registry.primitive_rule(_json_object)
    registry.struct_rule(functools.partial(_flags_of_config, left_out or {}))
    told = io.StringIO()
    for plugin in _named_plugins(arguments):
        trust.name(plugin)
    try:
        # Defaults come from records, so the user has not named the plug-ins in them.
        with trust.reading(), registry, contextlib.redirect_stderr(told):
            return tyro.cli(what, args=arguments, prog=f"distill {command}", **options)  # pyright: ignore
    except SystemExit as stop:
        if not stop.code:
            raise
        # tyro draws a box around its error; our errors are one line.
        words = re.sub(r"[─-╿]|For full helptext.*", " ", told.getvalue(), flags=re.DOTALL)
        words = re.sub(r"For further information.*|\[type=.*?\]", " ", words, flags=re.DOTALL)
        line = re.sub(r"\s+", " ", words).strip()
        line = re.sub(r"^.*?(error|options) (?=Error|Unrecognized|Missing)", "", line)
        way_out = f"{line.rstrip('.')}. See distill {command} --help."
        raise UserError("arguments", " ".join(arguments), f"the flags of distill {command}", way_out) from stop


def parse_known(
    what: Callable[..., _Parsed], arguments: list[str], command: str, left_out: LeftOut | None = None
) -> tuple[_Parsed, list[str]]:
    """Parse some flags of a command, and return the object that `what` makes of them and all other arguments."""
    made: Any = parse(what, arguments, command, left_out, return_unknown_args=True)
    return made


def parse_call(function: Callable[..., None], arguments: list[str], command: str) -> Callable[[], None]:
    """Parse the flags of a function, and return the call of the function, to be made later."""

    @functools.wraps(function)
    def bound(*positional: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(function, *positional, **named)

    return parse(bound, arguments, command)


def _named_plugins(arguments: list[str]) -> Iterator[str]:
    """Yield the values of flags that may name a plug-in, such as --model.name and --augment.program."""
    for word, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name.rpartition(".")[2] in ("name", "program"):
            yield value if equals else following


def _flags_of_config(left_out: LeftOut, info: StructTypeInfo) -> StructConstructorSpec | None:
    """Make the flags of a config: one for each field that is not left out."""
    kind = info.type
    if not (isinstance(kind, type) and issubclass(kind, Config)):
        return None
    default: dict[str, Any] = {name: field.get_default() for name, field in kind.model_fields.items()}
    default |= dict(info.default) if isinstance(info.default, Config) else {}
    kept = {name: default[name] for name in ("stage", *left_out.get(kind, ())) if name in default}
    # A part of a config becomes a dict: it is validated with the whole, whose errors then have whole paths.
    make = dict if kind.place else kind
    return StructConstructorSpec(
        instantiate=lambda **given: make(**kept, **given),
        fields=tuple(
            StructFieldSpec(name, _annotation(kind, name), default[name], helptext=field.description)
            for name, field in kind.model_fields.items()
            if name not in kept
        ),
    )


def _annotation(kind: type[Config], name: str) -> Any:
    field = kind.model_fields[name]
    short = SHORT.get(f"{kind.place}{name}")
    return Annotated[field.annotation, tyro.conf.arg(aliases=[short])] if short else field.annotation


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
    try:
        value = json.loads(words[0])
    except (json.JSONDecodeError, RecursionError) as error:
        value = error
    if not isinstance(value, dict):
        raise UserError("kwargs", words[0], "a JSON object", """Write it as '{"name": value}'.""")
    return value
