"""Define the base class of all configs, and the types of numbers that configs use."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill.errors import UserError
from distill.system import trust

Kwargs = dict[str, Any]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def invalid(error: ValidationError, where: str) -> UserError:
    """Turn the first complaint of a pydantic error into a one-line UserError."""
    first = error.errors()[0]
    field = ".".join([where, *map(str, first["loc"])])
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        expected = "none, since there is no such field"
    return UserError(field, first["input"], expected, "Its description: --help.")


class Config(BaseModel):
    """Base class of all configs: frozen, without unknown fields and without infinite numbers."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,  # JSON would write an infinite number as null
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    def __init__(self, /, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise invalid(error, type(self).__name__) from error

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy of this config with other values."""
        # pydantic's `model_copy` would not validate the values.
        return type(self)(**{**dict(self), **changes})


class MayNamePlugin(Config):
    """A config that may name a plug-in, `package.module:function`.

    Making the config in code or with flags counts as the user's word for the plug-in (`distill.system.trust`).
    """

    @property
    def plugin(self) -> str | None:
        """Return the reference of the plug-in that would be imported, or None if the config names none."""
        raise NotImplementedError

    def model_post_init(self, context: Any, /) -> None:
        """Note the plug-in that this config names."""
        # Not done in a validator: validators run again when another config takes this one as its part.
        if self.plugin is not None:
            trust.met(self.plugin)

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with other values; only a plug-in that changes counts as named by the user."""
        with trust.reading():
            made = super().replace(**changes)
        if made.plugin is not None and made.plugin != self.plugin:
            trust.met(made.plugin)
        return made


def function_of(name: str, *libraries: str) -> str | None:
    """Return a name if it refers to a function outside the given libraries, else None."""
    library, _, function = name.partition(":")
    return name if function and library not in libraries else None
