"""Run the command `distill` as `python -m distill`; where torchrun starts several ranks, only the first prints."""

import sys

# Python puts the working directory first on the path, and a `timm.py` of anybody may lie there.
_first = sys.path.pop(0) if __name__ == "__main__" and not sys.flags.safe_path else None

import atexit  # noqa: E402
import gc  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
from pathlib import Path  # noqa: E402

# A clone that is not installed stays on the path, at its end: child processes need it.
if _first and Path(__file__).absolute().parents[1] == Path(_first):
    sys.path.append(_first)

# Ctrl-C during the imports below ends the process without a traceback. After them `main` handles Ctrl-C.
_interrupted = signal.getsignal(signal.SIGINT)
if _interrupted is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

if "LOCAL_RANK" in os.environ:
    # torch, which reads this at its import, would warn that all weights got a gradient: the usual case.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from distill.cli.main import main  # noqa: E402
from distill.system import ranks  # noqa: E402
from distill.system.second_signal import end_at_second_signal  # noqa: E402


def run() -> None:
    """Run the command `distill`."""
    # No garbage is collected at exit: torch and timm leave so much that it takes 1.4 s of a core, and whoever stops
    # a training would wait for it.
    atexit.register(gc.freeze)
    os.environ["PYTHONSAFEPATH"] = "1"  # child processes do not begin with the working directory either
    ranks.mute_others()
    signal.signal(signal.SIGINT, _interrupted)
    end_at_second_signal()
    main()


if __name__ == "__main__":
    run()
