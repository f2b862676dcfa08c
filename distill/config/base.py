"""What all configs share: frozen fields, checks, and the types of numbers."""

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
    """The first complaint of pydantic, as one line of ours."""
    first = error.errors()[0]
    field = ".".join([where, *map(str, first["loc"])])
    expected = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        expected = "none, since there is no such field"
    return UserError(field, first["input"], expected, "Its description: --help.")


class Config(BaseModel):
    """What all configs share: frozen, no unknown field, no infinite number (JSON would write it as null)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    def __init__(self, /, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise invalid(error, type(self).__name__) from error

    def replace(self, **changes: Any) -> Self:
        """The same config with other values, validated (pydantic's `model_copy` would not validate)."""
        return type(self)(**{**dict(self), **changes})


class MayNamePlugin(Config):
    """A config in which `package.module:function` may stand. Making it counts as naming that (`trust`)."""

    @property
    def plugin(self) -> str | None:
        """The function that would be imported, or None."""
        raise NotImplementedError

    def model_post_init(self, context: Any, /) -> None:
        """Note the plug-in. Not a validator: those run again when another config takes this one as its part."""
        if self.plugin is not None:
            trust.met(self.plugin)

    def replace(self, **changes: Any) -> Self:
        """As of all configs; a plug-in that stays as it was is not named by that."""
        with trust.reading():
            made = super().replace(**changes)
        if made.plugin is not None and made.plugin != self.plugin:
            trust.met(made.plugin)
        return made


def function_of(name: str, *libraries: str) -> str | None:
    """The name, if it is of a function and not of something in one of the libraries."""
    library, _, function = name.partition(":")
    return name if function and library not in libraries else None
