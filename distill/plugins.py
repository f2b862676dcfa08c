"""`package.module:function` → the function, with its arguments checked before anything is trained."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.errors import UserError


def resolve(reference: str, field: str) -> Callable[..., Any]:
    """The function that `reference` names; the working directory is searched too.

    Raises:
        UserError: the reference is malformed, the module cannot be imported, or has no such function.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UserError(field, reference, "package.module:function", "Name the function after a colon.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        way_out = f"Install it or run where it can be imported ({error})."
        raise UserError(field, reference, "a module that can be imported", way_out) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        way_out = f"It has: {', '.join(sorted(names)) or 'none'}."
        raise UserError(field, reference, f"a function of module {module_name}", way_out)
    return function


def bind(function: Callable[..., Any], field: str, *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """The call `function(*args, **kwargs)`, its argument names checked now, to be made later.

    Raises:
        UserError: an argument is unknown or missing.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        raise UserError(
            field, kwargs, f"the arguments of {name}{signature}", f"{str(error).capitalize()}."
        ) from error
    return lambda: function(*args, **kwargs)
