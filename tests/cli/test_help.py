"""The help of each command: it fits a screen, and names every flag."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from distill.cli.commands import COMMANDS
from distill.cli.flag_names import SHORT
from tests.cli.commands import run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_names_every_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, command, "--help")
    assert told.startswith(f"usage: distill {command} ")
    assert len(told.splitlines()) <= 100
    assert max(map(len, told.splitlines())) <= 100
    in_full = run(capsys, command, "--help-all")
    assert max(map(len, in_full.splitlines())) <= 100
    for text in (told, in_full):
        shown = {*re.findall(r"(?<![\w`-])--[a-z][\w.-]+", text)} - {"--help-all"}
        assert all(shown & {*each.names} for each in COMMANDS[command].flags if each.names)
        assert shown - {name for each in COMMANDS[command].flags for name in each.names} <= {"--workers"}


def test_data_network_optimiser_and_loss_come_first_and_the_machine_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    headings = [line for line in run(capsys, "student", "--help").splitlines()[2:] if line[0] != " "]
    assert [line.split()[0] for line in headings] == ["Data", "Network", "Optimiser", "Loss", "Further", "Machine:"]


def test_sentences_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "teacher", "--help")
    assert "--lr, --optim.lr 0.1              Peak learning rate.\n" in told
    assert "--no-progress" in told
    assert "transformer (Vaswani et al. 2017, for sentences), timm:NAME" in " ".join(told.split())
    assert "Samples per step.\n" in told
    assert "the last incomplete batch" in run(capsys, "teacher", "--help-all")


def test_a_plan_of_stages_shows_the_help_of_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "plan", "student", "--help") == run(capsys, "student", "--help")


def test_short_names_are_of_one_field_each_in_every_command() -> None:
    for command in COMMANDS.values():
        names = [name for each in command.flags for name in each.names]
        assert len(names) == len({*names}), command.name
    assert {"--data", "--model", "--epochs", "--batch-size", "--lr", "--smoothing", "--temperature", "--alpha"} == {
        *SHORT.values()
    }


def imports(*arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    code = "import sys; from distill.cli.main import main\n"
    code += f"try: main({[*arguments]})\nexcept SystemExit: pass\nprint('modules', *sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {*told.splitlines()[-1].split()}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("techer",)])
def test_what_runs_no_command_imports_next_to_nothing(arguments: tuple[str, ...]) -> None:
    assert not {"torch", "numpy", "pydantic"} & imports(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("teacher", "--help"),
        ("teacher", "--device", "gpu"),
        ("teacher", "--lerning-rate", "1"),
        ("teacher", "--model", "resnet5"),
        ("teacher", "--model.kwargs", "{"),
        ("reproduce", "dark_knowledge", "--scale", "huge"),
    ],
)
def test_help_and_mistakes_of_spelling_need_no_torch(arguments: tuple[str, ...]) -> None:
    assert "torch" not in imports(*arguments)
