"""Run the command `distill` as `python -m distill`; where torchrun starts several ranks, only the first prints."""

import atexit
import gc
import signal

# Ctrl-C during the imports below ends the process without a traceback. After them `main` handles Ctrl-C.
_interrupted = signal.getsignal(signal.SIGINT)
if _interrupted is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from distill.cli.main import main  # noqa: E402
from distill.system import ranks  # noqa: E402


def run() -> None:
    """Run the command `distill`."""
    # No garbage is collected at exit: torch and timm leave so much that it takes 1.4 s of a core, and whoever stops
    # a training would wait for it.
    atexit.register(gc.freeze)
    ranks.mute_others()
    signal.signal(signal.SIGINT, _interrupted)
    main()


if __name__ == "__main__":
    run()
