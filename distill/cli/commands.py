"""List the commands of `distill`, with the help, the flags and the function of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distill.cli import artifacts, networks, runs
from distill.cli.flag_names import fields_of
from distill.cli.flags import parse_call
from distill.cli.stage_flags import STAGE_FLAGS, parse_config
from distill.system.runtime import Runtime


@dataclass(frozen=True)
class Command:
    """A command of `distill`."""

    name: str
    run: Callable[[list[str]], None]
    """Function that runs the command with the arguments after its name."""
    flags: tuple[Any, ...]
    """Classes and functions whose fields and parameters are the flags; the docstring of the first is the help."""
    runs_experiments: bool = False
    """Whether all configs come from files of experiments, so that no flag of another command is a way out."""

    @property
    def summary(self) -> str:
        """Return the first line of the help."""
        return str(inspect.getdoc(self.flags[0])).splitlines()[0]

    @cached_property
    def fields(self) -> frozenset[str]:
        """Return the names of the fields that have a flag of this command."""
        return frozenset(name for each in self.flags for name in fields_of(each))

    @property
    def known_fields(self) -> frozenset[str]:
        """Return the names of the fields that an error of this command calls by their flags."""
        return self.fields if self.runs_experiments else all_fields()


def _of(function: Callable[..., None], **facts: bool) -> Command:
    """Describe a command by a function whose parameters are its flags."""
    name = function.__name__.rstrip("_")
    return Command(name, lambda arguments: parse_call(function, arguments, name)(), (function,), **facts)


def _of_stage(name: str, make: Callable[..., None] = runs.make_stage) -> Command:
    """Describe a command whose flags make the config of a stage, which `make` then runs."""
    kind = STAGE_FLAGS[name]
    return Command(name, lambda arguments: make(*parse_config(name, arguments)), (kind, kind.config, Runtime))


def _plan(arguments: list[str]) -> None:
    if arguments and arguments[0] in STAGE_FLAGS:
        runs.plan_stages(arguments)
    else:
        parse_call(runs.plan, arguments, "plan")()


_STAGES = {name: _of_stage(name) for name in ("teacher", "cache", "student")}

GROUPS: tuple[tuple[Command, ...], ...] = (
    (
        _of(runs.reproduce, runs_experiments=True),
        Command("plan", _plan, (runs.plan, *(part for stage in _STAGES.values() for part in stage.flags))),
    ),
    (
        _STAGES["teacher"],
        _STAGES["cache"],
        _of(networks.import_),
        _STAGES["student"],
        _of_stage("sweep-smoothing", runs.make_sweep),
    ),
    (
        _of(networks.evaluate),
        _of(networks.calibrate),
        _of(networks.export),
        _of(artifacts.ls),
        _of(artifacts.show),
        _of(artifacts.verify),
        _of(artifacts.gc),
        _of(artifacts.doctor),
    ),
)
"""All commands, in the groups and the order in which the help lists them."""

COMMANDS = {command.name: command for group in GROUPS for command in group}
"""Name → command."""


def all_fields() -> frozenset[str]:
    """Return the names of the fields that have a flag of any command."""
    return frozenset().union(*(command.fields for command in COMMANDS.values()))


def format_help() -> str:
    """Format the help of `distill`: a line for each command."""
    width = max(map(len, COMMANDS))
    groups = ["\n".join(f"  {each.name:{width}}  {each.summary}" for each in group) for group in GROUPS]
    return "\n\n".join(["usage: distill COMMAND [flags]      (distill COMMAND --help lists the flags)", *groups])
