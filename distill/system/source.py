"""Compute the digest of a plug-in's source: its module and the local modules that it imports, none of them run."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import all_suffixes
from pathlib import Path

from distill.system.files import sha256

_PACKAGE = Path(__file__).parents[1]
_STDLIB = Path(sysconfig.get_path("stdlib"))


def search_here() -> None:
    """Let modules that are found nowhere else be imported from the working directory."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()  # a module may be newer than what is known of its folder


def hidden_file(module: str) -> Path | None:
    """Return the file of the working directory that looks like a module, or the package around it, but is not it.

    The working directory is searched last, so that another module of this name is imported.
    """
    top = module.partition(".")[0]
    candidates = [Path(f"{stem}{suffix}") for stem in (f"{top}/__init__", top) for suffix in all_suffixes()]
    file = next((path for path in candidates if path.is_file()), None)
    found = next((path for _, path in _files_of(top)), None)
    return file if file and not (found and found.samefile(file)) else None


def source_digest(module: str) -> str | None:
    """Return the digest of the source of a module; None if it is installed, part of Python, or not to be found.

    The local modules that it imports count too, and what these import. Imports are read off the text. A module that
    a plug-in finds in another way, or a file that it reads, does not count.
    """
    files = local_sources(module)
    if not files:
        return None
    lines = [f"{sha256(path)} {name}\n" for name, path in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_here(module: str) -> bool:
    """Tell whether a module is found, without running it or the packages around it."""
    return module in sys.builtin_module_names or any(name == module for name, _ in _files_of(module))


def local_sources(module: str) -> dict[str, Path]:
    """Map the name of a module, and of each module that it imports, to its file; leave out what is installed.

    A module is installed if it is part of Python, of this package, or of `site-packages`.
    """
    files: dict[str, Path] = {}
    waiting, seen = [module], set[str]()
    while waiting:
        wanted = waiting.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        for name, path in _files_of(wanted):
            if name not in files and _is_local(path):
                files[name] = path
                package = name if path.name.startswith("__init__.") else name.rpartition(".")[0]
                waiting += imports(path.read_bytes(), package) if path.suffix == ".py" else ()
    return files


def _files_of(module: str) -> Iterator[tuple[str, Path]]:
    """Yield name and file of each package around a module, which run before it, and of the module."""
    top, *inner = module.split(".")
    with suppress(ImportError, ValueError, AttributeError):
        # The parts are looked for one by one: `find_spec` of a module in a package would run the package.
        spec = importlib.util.find_spec(top)
        if spec is None:
            return
        # The file of a module that was imported may be gone.
        if spec.has_location and spec.origin and Path(spec.origin).is_file():
            yield top, Path(spec.origin)
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        name = top
        for part in inner:
            name = f"{name}.{part}"
            candidates = [folder / part / "__init__.py" for folder in folders]
            candidates += [folder / f"{part}{suffix}" for folder in folders for suffix in all_suffixes()]
            if file := next((path for path in candidates if path.is_file()), None):
                yield name, file
            folders = [folder / part for folder in folders]


def _is_local(path: Path) -> bool:
    path = path.absolute()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not (installed or path.is_relative_to(_PACKAGE) or path.is_relative_to(_STDLIB))


@functools.lru_cache(maxsize=1024)
def imports(text: bytes, package: str) -> tuple[str, ...]:
    """Read off the text of a module what it imports; of `from a import b`, `b` may be a module or not."""
    names: list[str] = []
    with suppress(SyntaxError, ValueError):  # importing it fails too, and says more
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                # One dot is the package itself, each further one the package above.
                above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
                source = ".".join([*above, *([node.module] if node.module else [])])
                names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return tuple(dict.fromkeys(names))
