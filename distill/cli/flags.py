"""List the flags of a command, and read their values from the words of a command line."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic_core import PydanticUndefined

from distill.cli.flag_names import SHORT, flag
from distill.config.base import invalid
from distill.errors import UserError
from distill.system import trust
from distill.system.reading import load_json

_Model = TypeVar("_Model", bound=BaseModel)
_PAIR = re.compile(r"([A-Za-z_]\w*)=(.*)", flags=re.DOTALL)


class Mark(Enum):
    """Mark a field that differs from a plain flag, as part of its annotation."""

    POSITIONAL = "its value has no flag in front"
    UNPREFIXED = "it has flags inside, whose names do not begin with its own"


@dataclass(frozen=True, eq=False)
class Flag:
    """Describe a flag: the field that it sets, and what the help says of it."""

    field: str
    """Dotted name of the field, such as `optim.lr`."""
    keys: tuple[str, ...]
    """Where its value goes: the names of the fields from the outermost on."""
    kinds: tuple[Any, ...]
    """Types that a value may have."""
    default: Any
    """Value without the flag; PydanticUndefined if it must be given."""
    about: str
    """Its meaning: the docstring of the field."""
    is_positional: bool

    @property
    def names(self) -> list[str]:
        """List the names that set it, the shortest first; a switch also has a name that turns it off."""
        if self.is_positional:
            return []
        names = [*filter(None, [SHORT.get(self.field)]), flag(self.field)]
        return [*names, flag(self.field, "False")] if bool in self.kinds else names

    @property
    def items(self) -> tuple[Any, ...]:
        """Return the types that each of several values may have; nothing where the flag takes one value."""
        several = [kind for kind in self.kinds if typing.get_origin(kind) is tuple]
        return kinds_of(typing.get_args(several[0])[0]) if several else ()


def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows, one by one."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kinds_of(inside[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for part in inside for kind in kinds_of(part))
    return (dict,) if origin is dict else (annotation,)


def flags_of(what: type[BaseModel], prefix: str = "", keys: tuple[str, ...] = ()) -> Iterator[Flag]:
    """Yield a flag for each field of a model, and of the models inside it."""
    for name, about in what.model_fields.items():
        kinds, marks, place = kinds_of(about.annotation), about.metadata, (*keys, name)
        inner = kinds[0] if isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel) else None
        path = f"{prefix}{name.rstrip('_')}"
        if inner and Mark.UNPREFIXED in marks:
            yield from flags_of(inner, prefix, place)
        # Configs of stages, whose place is empty, are inputs; digests are filled in later.
        elif getattr(inner, "place", None) == "" or (hasattr(what, "place") and name in ("stage", "content")):
            continue
        elif inner:
            yield from flags_of(inner, f"{path}.", place)
        else:
            default = about.get_default(call_default_factory=True)
            text = " ".join((about.description or "").split())
            yield Flag(path, place, kinds, default, text, Mark.POSITIONAL in marks)


def model_of(function: Callable[..., Any]) -> type[BaseModel]:
    """Return a model whose fields are the parameters of a function, with what its docstring says of them."""
    said = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(function) or "", flags=re.MULTILINE))
    said = {name: f"{text[:1].upper()}{text[1:]}" for name, text in said.items()}
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, each in inspect.signature(function).parameters.items():
        default = PydanticUndefined if each.default is each.empty else each.default
        fields[name] = hints[name], Field(default, description=said.get(name))
    return create_model(function.__name__, **fields)


def read(arguments: Iterable[str], flags: Collection[Flag], command: str) -> dict[Flag, Any]:
    """Return the value of each flag that a command line gives; plug-ins that flags name are trusted.

    Raises:
        UserError: a flag is unknown or has no value, or a word belongs to no flag.
    """
    from distill.cli.hints import unknown_flag

    names = {name: each for each in flags for name in each.names}
    given: dict[Flag, list[str]] = {}
    loose: list[str] = []
    words = deque(arguments)
    while words:
        word = words.popleft()
        if not word.startswith("-"):
            loose.append(word)
            continue
        name, equals, value = word.partition("=")
        each = names.get(name := name.replace("_", "-"))
        if each is None:
            raise unknown_flag(name, command)
        if bool in each.kinds:
            if equals:
                raise UserError(each.field, value, "no value: it is a switch", f"Write {flag(each.field)} alone.")
            given[each] = [str(name != flag(each.field, "False"))]
            continue
        values = [value] if equals else []
        while words and _belongs(words[0], each, len(values)):
            values.append(words.popleft())
        if not values and not each.items:
            raise UserError(each.field, "nothing", "a value after it", f"Its meaning: {each.about}")
        # A later value replaces an earlier one; arguments are joined.
        given[each] = [*given.get(each, ()), *values] if dict in each.kinds else values
    given |= _positional(loose, flags, command)
    for each, values in given.items():
        if values and each.field.rpartition(".")[2] in ("name", "program", "data"):
            trust.name(values[0])
    return {each: _value(each, values) for each, values in given.items()}


def _belongs(word: str, to: Flag, taken: int) -> bool:
    """Tell whether a word is a value of the flag in front of it, which has taken some already."""
    if word.startswith("--"):
        return False
    if dict in to.kinds:
        return not taken or _PAIR.fullmatch(word) is not None
    return not taken or bool(to.items)


def _positional(words: list[str], flags: Iterable[Flag], command: str) -> dict[Flag, list[str]]:
    """Share out words that follow no flag among the arguments that have none."""
    given: dict[Flag, list[str]] = {}
    for each in flags:
        if each.is_positional and words:
            count = len(words) if each.items else 1
            given[each], words = words[:count], words[count:]
    if words and given:
        raise UserError(next(iter(given)).field, words[0], "only one", f"`distill {command}` takes one at a time.")
    if words:
        way_out = f"`distill {command} --help` lists them; write a value after the name of its flag."
        raise UserError("word", words[0], f"a flag of distill {command}", way_out)
    return given


def _value(of: Flag, words: list[str]) -> Any:
    """Return the value that words give a flag, as far as words can tell; its model checks it."""
    if dict in of.kinds:
        return _arguments(of, words)
    if not of.items or words == ["None"] or (len(words) == 1 and words[0] in choices(of)):
        return _one(words[0], of.kinds)
    if {int, float} & {*of.items} and (wrong := [word for word in words if "," in word]):
        several = " ".join(" ".join(words).replace(",", " ").split())
        expected = "spaces between the numbers, not commas"
        raise UserError(of.field, wrong[0], expected, f"Write {flag(of.field)} {several}.")
    return [_one(word, of.items) for word in words]


def _one(word: str, kinds: Collection[Any]) -> Any:
    if word == "None" and type(None) in kinds:
        return None
    for kind in (bool, int, float):
        if kind in kinds:
            with suppress(ValueError):
                return word == "True" if kind is bool else kind(word)
    return word


def _arguments(of: Flag, words: list[str]) -> dict[str, Any]:
    """Return the arguments that words give: each word a JSON object, or a name and a value as in `widths=[8]`."""
    found: dict[str, Any] = {}
    for word in words:
        pair = _PAIR.fullmatch(word)
        text = pair[2] if pair else word
        try:
            value = load_json(text)
        except ValueError as error:
            if not pair or text[:1] in ("[", "{", '"'):
                expected = f"JSON, or NAME=VALUE where VALUE is JSON or a word, and not {error}"
                raise UserError(of.field, word, expected, f"Write {flag(of.field)} size=64 name=text.") from error
            value = text
        if pair:
            found[pair[1]] = value
        elif isinstance(value, dict):
            found |= value
        else:
            raise UserError(of.field, word, "NAME=VALUE, or a JSON object", f"Write {flag(of.field)} size=64.")
    return found


def nested(values: Mapping[Flag, Any], flags: Iterable[Flag]) -> dict[str, Any]:
    """Put each value where its field is: models inside models become dicts, empty where nothing is given."""
    tree: dict[str, Any] = {}
    for each in flags:
        node = tree
        for key in each.keys[:-1]:
            node = node.setdefault(key, {})
        if each in values:
            node[each.keys[-1]] = values[each]
    return tree


def make(
    model: type[_Model], given: Mapping[str, Any], flags: Iterable[Flag], inside: tuple[str, ...] = ()
) -> _Model:
    """Make a model of the values of its flags.

    Args:
        model: the model.
        given: its fields.
        flags: flags of the command.
        inside: the first keys of these flags, which lead to the model.

    Raises:
        UserError: a value is missing or of another type.
    """
    try:
        return model(**given)
    except ValidationError as error:
        first = error.errors()[0]
        keys = (*inside, *(part for part in first["loc"] if isinstance(part, str)))
        wrong = next((each for each in flags if keys[: len(each.keys)] == each.keys), None)
        if wrong is None:
            raise invalid(error, "", "See `distill --help`.") from error
        if first["type"] == "missing":
            about = f"{wrong.about[:1].lower()}{wrong.about[1:].rstrip('.')}"
            way_out = f"Add {wrong.names[-1]}." if wrong.names else "Write it after the command."
            raise UserError(wrong.field, None, about, way_out) from error
        told = invalid(error, "", f"Its meaning: {wrong.about}")
        raise UserError(wrong.field, told.value, told.expected, told.way_out) from error
    except UserError as error:  # of a config inside, whose own name is no part of the flags
        wrong = next((each for each in flags if ".".join(each.keys[len(inside) :]) == error.field), None)
        raise UserError(
            wrong.field if wrong else error.field, error.value, error.expected, error.way_out
        ) from error


def shown(value: Any) -> str:
    """Write a default as a user would give it; an empty text where there is nothing to show."""
    if isinstance(value, tuple | list):
        return " ".join(map(shown, value))
    if isinstance(value, dict):
        return json.dumps(value) if value else ""
    return "" if value is None or value is PydanticUndefined else str(value)


def choices(of: Flag) -> list[str]:
    """List the words among which a flag chooses; nothing where it takes any."""
    return [str(word) for kind in of.kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
