"""Run the command that `distill` is given, and turn errors into lines and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from typing import NoReturn

from distill.cli.commands import COMMANDS, format_help
from distill.cli.flag_names import error_text
from distill.errors import UserError, printable
from distill.pipeline.executors.failures import StagesFailed

_REST = "All that needs none of these is made. Run the same command again to try only what is missing."


def main(arguments: list[str] | None = None) -> None:
    """Run the command `distill` or `python -m distill`; a user's mistake gives one line and exit code 2."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command = COMMANDS.get(name)
    warnings.filterwarnings("ignore", module="torch")  # torch warns about its own internals
    try:
        if command is not None:
            command.run(rest)
        elif name in ("-h", "--help"):
            print(format_help())
        else:
            raise UserError("command", name, f"one of {', '.join(COMMANDS)}", "See `distill --help`.")
        sys.stdout.flush()
    except (UserError, StagesFailed) as error:
        text = error_text(error, command.fields if command else ())
        if isinstance(error, StagesFailed):
            _stop(f"{text}\n{_REST}", 1)
        _stop(f"error: {text}", 2)
    except BrokenPipeError:  # as in `distill ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout at its end
        raise SystemExit(1) from None
    except OSError as error:
        _stop(f"error: {error.filename or 'system'}: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        _stop("interrupted; run the same command again to go on where it stopped", 130)


def _stop(text: str, code: int) -> NoReturn:
    print(*map(printable, text.split("\n")), sep="\n", file=sys.stderr)
    raise SystemExit(code)
