"""Define the base class of all configs, and the types of numbers that configs use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import to_jsonable_python

from distill.errors import UserError, is_utf8
from distill.system.plugins import trust_function
from distill.system.reading import load_json


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        load_json(json.dumps(to_jsonable_python(value)))
    except ValueError as error:
        raise ValueError(f"values that a JSON file can hold, and not {error}") from error
    return value


Kwargs = Annotated[dict[str, Any], AfterValidator(_as_json)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=10**9)]
NonNegative = Annotated[int, Field(ge=0, le=10**9)]
Bins = Annotated[int, Field(ge=1, le=10**5)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def invalid(error: ValidationError, place: str, way_out: str) -> UserError:
    """Turn the first complaint of a pydantic error into a one-line UserError.

    Args:
        error: error of pydantic.
        place: text in front of the path of the field, such as "optim.".
        way_out: what to do.
    """
    first = error.errors()[0]
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    expected = re.sub(r"^\w+ should have (.*?)(?: after validation, not \d+)?$", r"\1", expected)
    expected = re.sub(r", unable to parse .*", "", expected)
    if first["type"] == "extra_forbidden":
        expected = "none, since there is no such field"
    field = place + ".".join(part for part in first["loc"] if isinstance(part, str))  # not the place in a list
    return UserError(field.rstrip(".") or "config", first["input"], expected, way_out)


class Config(BaseModel):
    """Define what all configs share: they are frozen, and refuse unknown fields and infinite numbers."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,  # JSON would write an infinite number as null
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    place: ClassVar[str] = ""
    """Path of this config in the config of a stage, with a dot at its end, such as "optim."; empty for a stage."""

    def __init__(self, /, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            known = type(self).model_fields
            wrong = known.get(str(next(iter(error.errors()[0]["loc"]), "")))
            meaning = f"Its meaning: {wrong.description}" if wrong and wrong.description else ""
            raise invalid(error, self.place, meaning or f"The fields are {', '.join(known)}.") from error

    @model_validator(mode="wrap")
    @classmethod
    def _name_from_outside(cls, value: Any, check: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Complete the field that an error names with the path of this config inside the config that holds it."""
        try:
            return check(value)
        except UserError as error:
            # A path that has the name already was made by an inner call, or this config is where it usually is.
            if info.field_name is None or f".{info.field_name}." in f".{error.field}":
                raise
            field = f"{info.field_name}.{error.field.removeprefix(cls.place)}"
            raise UserError(field, error.value, error.expected, error.way_out) from error

    @model_validator(mode="after")
    def _utf8(self) -> Self:
        """Refuse a text that no record could hold, before a network is trained whose record nobody can read."""
        for name, value in self:
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and not is_utf8(text):
                    way_out = "Rename it, or set PYTHONUTF8=1 if only the terminal has another encoding."
                    raise UserError(f"{self.place}{name}", text, "a text in UTF-8", way_out)
        return self

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy of this config with other values."""
        # pydantic's `model_copy` would not validate the values.
        return type(self)(**{**dict(self), **changes})

    @property
    def plugin(self) -> str | None:
        """Return the reference of the plug-in that this config itself names, or None."""
        return None

    def plugins(self) -> Iterator[str]:
        """Yield the references of all plug-ins that this config and its parts name."""
        if self.plugin is not None:
            yield self.plugin
        for _, value in self:
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Config):
                    yield from part.plugins()


def function_of(name: str, *libraries: str) -> str | None:
    """Return `name` if it has the form `module:function` and the module is none of `libraries`, else None."""
    library, _, function = name.partition(":")
    return name if function and library not in libraries else None


def or_function(field: str) -> BeforeValidator:
    """Let a config field take a function itself in place of its reference, and trust this function as a plug-in."""
    return BeforeValidator(lambda value: trust_function(value, field) if callable(value) else value)
