"""List the commands of `distill`, with the help, the flags and the function of each.

Only the command that is run imports what it needs, so that the list of commands and a misspelt one take no time.
"""

from __future__ import annotations

import ast
import functools
import inspect
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.cli.flags import Flag

_HELP = {"-h": False, "--help": False, "--help-all": True}
"""Flag that asks for help → whether it asks for all that is known."""


@dataclass(frozen=True)
class Command:
    """Describe a command of `distill`: its name, its help, its flags and the function that runs it."""

    name: str
    source: str
    """Function whose parameters are its flags, or flags of a stage, such as `runs.reproduce`; its docstring is the
    help."""
    also: tuple[Command, ...] = ()
    """Commands whose flags it may have too."""

    def run(self, arguments: list[str]) -> None:
        """Run the command with the arguments after its name, or print its help."""
        from distill.cli import runs
        from distill.cli.flags import make, model_of, nested, read
        from distill.cli.help import format_flags
        from distill.cli.stage_flags import parse_config

        stage = next((each for each in self.also if arguments[:1] == [each.name]), None)
        if asked := [word for word in arguments if word in _HELP]:
            of = stage or self
            said = str(inspect.getdoc(of.target)).partition("\n\nArgs:")[0]
            print(format_flags(of.name, said, of.flags, any(map(_HELP.get, asked))))
        elif stage:
            runs.plan_stages(arguments)
        elif isinstance(self.target, type):
            config, runtime = parse_config(self.name, arguments)
            runs.make_stage(config, runtime)
        else:
            given = nested(read(arguments, self.flags, self.name), self.flags)
            self.target(**dict(make(model_of(self.target), given, self.flags)))

    @property
    def target(self) -> Any:
        """Import the function, or the flags of a stage."""
        module, _, name = self.source.partition(".")
        return getattr(import_module(f"distill.cli.{module}"), name)

    @property
    def summary(self) -> str:
        """Return the first line of the help, which is read without an import."""
        module, _, name = self.source.partition(".")
        return _first_lines(module)[name]

    @functools.cached_property
    def flags(self) -> list[Flag]:
        """Return the flags and arguments of this command."""
        from distill.cli.flags import flags_of, model_of
        from distill.cli.stage_flags import stage_flags

        target = self.target
        return stage_flags(self.name) if isinstance(target, type) else [*flags_of(model_of(target))]

    @functools.cached_property
    def fields(self) -> frozenset[str]:
        """Return the dotted names of the fields that have a flag of this command."""
        named = frozenset(each.field for each in self.flags if not each.is_positional)
        return named.union(*(each.fields for each in self.also))


@functools.cache
def _first_lines(module: str) -> dict[str, str]:
    """Return the first lines of the docstrings in a module: name of a function or class → line."""
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8"))
    defined = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.ClassDef)]
    return {each.name: (ast.get_docstring(each) or "").partition("\n")[0] for each in defined}


def _of(module: str, *names: str) -> list[Command]:
    """Describe commands by functions of a module."""
    return [Command(name.rstrip("_"), f"{module}.{name}") for name in names]


_TEACHER, _CACHE, _STUDENT = (
    Command(each.lower(), f"stage_flags.{each}") for each in ("Teacher", "Cache", "Student")
)
_SWEEP = Command("sweep-smoothing", "stage_flags.Sweep")

GROUPS: tuple[tuple[Command, ...], ...] = (
    (*_of("runs", "reproduce"), Command("plan", "runs.plan", (_TEACHER, _CACHE, _STUDENT, _SWEEP))),
    (_TEACHER, *_of("networks", "adopt"), _CACHE, *_of("networks", "import_"), _STUDENT, _SWEEP),
    (
        *_of("networks", "evaluate"),
        *_of("checkup", "checkup"),
        *_of("networks", "calibrate", "export"),
        *_of("artifacts", "ls", "show", "verify", "gc", "doctor"),
    ),
)
"""All commands, in the groups and the order in which the help lists them."""

COMMANDS = {command.name: command for group in GROUPS for command in group}
"""Name → command."""


def format_help() -> str:
    """Format the help of `distill`: a line for each command."""
    width = max(map(len, COMMANDS))
    groups = ["\n".join(f"  {each.name:{width}}  {each.summary}" for each in group) for group in GROUPS]
    usage = (
        "usage: distill COMMAND [flags]      (distill COMMAND --help lists the flags; --version tells the version)"
    )
    return "\n\n".join([usage, *groups])
