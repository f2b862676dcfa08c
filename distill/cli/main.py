"""Find the subcommand that `distill` is to run, and turn errors into lines and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

from distill.cli.artifacts import doctor, gc, ls, show, verify
from distill.cli.flags import SWEEP, parse_call
from distill.cli.networks import calibrate, evaluate, export, import_
from distill.cli.runs import plan, reproduce, stage_command, sweep_smoothing
from distill.errors import UserError
from distill.pipeline.executors.failures import StagesFailed

_FUNCTIONS: dict[str, Callable[..., None]] = {
    "reproduce": reproduce,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "export": export,
    "ls": ls,
    "show": show,
    "import": import_,
    "verify": verify,
    "gc": gc,
    "doctor": doctor,
}


_HELP = """usage: distill COMMAND [flags]      (distill COMMAND --help lists the flags)

  reproduce  run an experiment, or all, as far as they are not done; print tables and verdicts
  plan       say what would run, its bytes and rough time; run nothing

  teacher    train a teacher, with or without label smoothing
  cache      write a teacher's logits on a transfer set
  import     make a cache of logits from elsewhere
  student    train a student, from a cache or from labels
  sweep-smoothing
             train one recipe with several strengths of smoothing; say which to take for what use

  evaluate   print the measures of a trained network or of a cache, or with --measures all every one
  calibrate  fit temperature, vector or Platt scaling on held-out images; print calibration before and after
  export     write a network and its calibration to a folder that others can use
  ls         list artifacts          show    print the record of one
  verify     check their files; of a cache that is named, make pixels and logits again
  gc         list or delete what is of no use any more
  doctor     check this machine: versions, device, data, disk"""


_REST = "All that needs none of these is made. Run the same command again to try only what is missing."


def main(arguments: list[str] | None = None) -> None:
    """Run the command `distill` or `python -m distill`; a user's mistake gives one line and exit code 2."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    warnings.filterwarnings("ignore", module="torch")  # torch warns about its own internals
    try:
        if command in ("-h", "--help"):
            print(_HELP)
        elif command in ("teacher", "cache", "student"):
            stage_command(command)(rest)
        elif command == SWEEP:
            sweep_smoothing(rest)
        elif command == "plan":
            plan(rest)
        elif command in _FUNCTIONS:
            parse_call(_FUNCTIONS[command], rest, command)()
        else:
            raise UserError("command", command, "one of those in `distill --help`", "Check the spelling.")
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise SystemExit(2) from None
    except StagesFailed as error:
        print(error, _REST, sep="\n", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # as in `distill ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout at its end
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
