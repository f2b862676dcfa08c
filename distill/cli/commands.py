"""List the commands of `distill`, with the help, the flags and the function of each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distill.cli import artifacts, networks, runs
from distill.cli.flag_names import fields_of
from distill.cli.flags import parse
from distill.cli.stage_flags import STAGE_FLAGS, parse_config
from distill.system.runtime import Runtime


@dataclass(frozen=True)
class Command:
    """Describe a command of `distill`: its name, its help, its flags and the function that runs it."""

    name: str
    run: Callable[[list[str]], None]
    """Function that runs the command with the arguments after its name."""
    flags: tuple[Any, ...]
    """Classes and functions whose fields and parameters are the flags; the docstring of the first is the help."""
    left_out: tuple[str, ...] = ()
    """Dotted names of fields that get no flag."""

    @property
    def summary(self) -> str:
        """Return the first line of the help."""
        return str(inspect.getdoc(self.flags[0])).splitlines()[0]

    @functools.cached_property
    def fields(self) -> frozenset[str]:
        """Return the dotted names of the fields that have a flag of this command."""
        return frozenset(name for each in self.flags for name in fields_of(each)) - {*self.left_out}


def _of(function: Callable[..., None]) -> Command:
    """Describe a command by a function whose parameters are its flags."""
    name = function.__name__.rstrip("_")

    # The function is called when the parser, which captures what is printed, has ended.
    @functools.wraps(function)
    def call_later(*positional: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(function, *positional, **named)

    def run(arguments: list[str]) -> None:
        parse(call_later, arguments, name)()

    return Command(name, run, (function,))


def _of_stage(name: str, make: Callable[..., None] = runs.make_stage) -> Command:
    """Describe a command that makes the config of a stage from its flags, and passes it to the function `make`."""
    kind = STAGE_FLAGS[name]

    def run(arguments: list[str]) -> None:
        config, runtime = parse_config(name, arguments)
        make(config, runtime)

    return Command(name, run, (kind, kind.config, Runtime), kind.left_out)


def _plan() -> Command:
    """Describe the command that plans an experiment, or stages with all their flags."""
    experiment, stages = _of(runs.plan), (_TEACHER, _CACHE, _STUDENT, _SWEEP)

    def run(arguments: list[str]) -> None:
        is_stage = arguments and arguments[0] in STAGE_FLAGS
        (runs.plan_stages if is_stage else experiment.run)(arguments)

    return Command("plan", run, (*experiment.flags, *(part for stage in stages for part in stage.flags)))


_TEACHER, _CACHE, _STUDENT = map(_of_stage, ("teacher", "cache", "student"))
_SWEEP = _of_stage("sweep-smoothing", runs.make_sweep)

GROUPS: tuple[tuple[Command, ...], ...] = (
    (_of(runs.reproduce), _plan()),
    (_TEACHER, _CACHE, _of(networks.import_), _STUDENT, _SWEEP),
    (
        *map(_of, (networks.evaluate, networks.calibrate, networks.export)),
        *map(_of, (artifacts.ls, artifacts.show, artifacts.verify, artifacts.gc, artifacts.doctor)),
    ),
)
"""All commands, in the groups and the order in which the help lists them."""

COMMANDS = {command.name: command for group in GROUPS for command in group}
"""Name → command."""


def format_help() -> str:
    """Format the help of `distill`: a line for each command."""
    width = max(map(len, COMMANDS))
    groups = ["\n".join(f"  {each.name:{width}}  {each.summary}" for each in group) for group in GROUPS]
    return "\n\n".join(["usage: distill COMMAND [flags]      (distill COMMAND --help lists the flags)", *groups])
