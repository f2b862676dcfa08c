"""Import the function that `package.module:function` names, and check its arguments before anything is trained."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Any

from distill.errors import ContentChanged, UserError
from distill.system import trust
from distill.system.source import hidden_file, search_here, source_digest

HARMLESS = ("timm.data:create_transform", "torchvision.transforms.v2:RandomResizedCrop")
"""View programs that need no trust.

They are of installed libraries, and only look up in tables, or use as numbers, whatever JSON gives them: no
argument names a file or code. Read the code of a function in this way before you add it.
"""


_imported: dict[str, str | None] = {}
"""Module that `resolve` has imported → digest of its source at that time."""


def resolve(reference: str, field: str, content: str | None = None) -> Callable[..., Any]:
    """Import the function that a reference names; the working directory is searched too, after all else.

    Args:
        reference: the plug-in, as `package.module:function`.
        field: config field that names it, for errors.
        content: digest that its source must have; None takes it as it is.

    Raises:
        ContentChanged: the source has another digest.
        UserError: the reference is malformed or not trusted, the module cannot be imported, or was edited since it
            was, or it has no such function.
    """
    digest = plugin_content(reference, field)
    if digest and content and digest != content:
        raise ContentChanged(field, reference)
    module_name, _, attribute = reference.partition(":")
    if module_name not in sys.modules:
        _imported[module_name] = digest
    elif _imported.setdefault(module_name, digest) != digest:
        expected = "the source that this process has imported, which was edited since"
        raise UserError(field, reference, expected, "Start Python again.")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # of its code too
        missing = isinstance(error, ImportError)
        way_out = f"{'Install it, or run where it can be imported' if missing else 'Mend it'}: {told(error)}."
        raise UserError(field, reference, "a module that can be imported", way_out) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        names = sorted(name for name, value in vars(module).items() if callable(value) and name[0] != "_")
        way_out = f"It has: {', '.join(names) or 'none'}."
        raise UserError(field, reference, f"a function of module {module_name}", way_out)
    return function


def plugin_content(reference: str, field: str) -> str | None:
    """Return the digest of a plug-in's source, which is read but not run; None if it is installed or not here.

    Raises:
        UserError: the reference is malformed or not trusted, or a file of the working directory has the name of
            its module and is not what would be imported.
    """
    module_name, _, attribute = reference.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise UserError(field, reference, "package.module:function", "Name the function after a colon.")
    if trust.is_trusted(reference):
        search_here()
        if reference not in HARMLESS and (file := hidden_file(module_name)):
            expected = "a module with a name of its own: Python, or what is installed, has one of this name too"
            raise UserError(field, reference, expected, f"Rename {str(file)!r}, or run in another folder.")
        return source_digest(module_name)
    if reference not in HARMLESS:
        file = trust.naming_files.get(reference)
        named_by = "" if file is None else f"; {str(file)!r} names it"
        expected = f"a plug-in that you trust; it would import {module_name!r} and call {attribute!r}{named_by}"
        way_out = f"If you trust who wrote it, set `trust`, or call distill.system.trust.name({reference!r})."
        raise UserError(field, reference, expected, way_out)
    return None


def trust_function(function: Any, field: str) -> str:
    """Allow a function that the user passed to be imported by its name, and return that `module:function`.

    Raises:
        UserError: it is not a function or a class that another process could import by its name.
    """
    if inspect.isfunction(function) or inspect.isclass(function):
        module, name = function.__module__, function.__qualname__
        is_main = module in ("__main__", "__mp_main__")  # other processes have another main module
        if not is_main and getattr(sys.modules.get(module), name, None) is function:
            trust.name(f"{module}:{name}")
            return f"{module}:{name}"
    expected = "a function at the top level of a module"
    way_out = "Move it into a module of its own and import it, or name it as 'package.module:function'."
    raise UserError(field, function, expected, way_out)


def bind(function: Callable[..., Any], field: str, *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """Check now that a function takes these arguments, by their names, and return the call, to be made later.

    Raises:
        UserError: an argument is unknown or missing.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # of `math.hypot` and others that are no Python, the call will tell
        return lambda: function(*args, **kwargs)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        expected = f"the arguments of {getattr(function, '__name__', repr(function))}{signature}"
        raise UserError(field, kwargs, expected, f"{str(error).capitalize()}.") from error
    return lambda: function(*args, **kwargs)


def told(error: Exception) -> str:
    """Return what an error of somebody's code says, in one line, and where it was raised."""
    text = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<")]
    is_placed = isinstance(error, SyntaxError | ModuleNotFoundError) or not frames
    return text if is_placed else f"{text} ({frames[-1].filename}, line {frames[-1].lineno})"
