"""Run the command that `distill` is given, and turn errors into lines and exit codes."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from typing import NoReturn

from distill.cli.commands import COMMANDS, format_help
from distill.cli.hints import unknown_command
from distill.errors import printable
from distill.system import terminal
from distill.system.version import __version__

_REST = "All that needs none of these is made. Run the same command again to try only what is missing."


def main(arguments: list[str] | None = None) -> None:
    """Run the command `distill` or `python -m distill`; a user's mistake gives one line and exit code 2."""
    terminal.prepare()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    warnings.filterwarnings("ignore", module="torch")  # torch warns about its own internals
    try:
        try:
            if name in ("-h", "--help"):
                print(format_help())
            elif name == "--version":
                print(f"distill {__version__}")
            elif name in COMMANDS:
                _run(name, rest)
            else:
                _stop(f"error: {unknown_command(name)}", 2)
        except SystemExit:  # a code that a script asks for
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except OSError as error:
        where = error.filename or ("system" if terminal.flush(sys.stdout) else "stdout; what was made is kept")
        if isinstance(error, BrokenPipeError):  # as in `distill ls | head`
            raise SystemExit(1) from None
        _stop(f"error: {where}: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        _stop("interrupted; run the same command again to go on where it stopped", 130)
    finally:
        for stream in (sys.stdout, sys.stderr):
            terminal.flush(stream)


def _run(name: str, arguments: list[str]) -> None:
    """Run a command, and turn an error that a user can cause into a line and an exit code."""
    from distill.cli.flag_names import error_text
    from distill.errors import UserError
    from distill.pipeline.executors.failures import StagesFailed

    command = COMMANDS[name]
    try:
        command.run(arguments)
    except (UserError, StagesFailed) as error:
        text = error_text(error, command.fields)
        if isinstance(error, StagesFailed):
            _stop(f"{text}\n{_REST}", 1)
        _stop(f"error: {text}", 2)


def _stop(text: str, code: int) -> NoReturn:
    with suppress(OSError):
        print(*map(printable, text.split("\n")), sep="\n", file=sys.stderr)
    raise SystemExit(code)
