"""`python -m distill` is the command `distill`; what torchrun starts as several ranks speaks with one voice."""

import atexit
import gc
import signal

# Ctrl-C while all that follows is imported: no traceback. Then `main` says what it means.
_interrupted = signal.getsignal(signal.SIGINT)
if _interrupted is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from distill.cli.main import main  # noqa: E402
from distill.system import ranks  # noqa: E402


def run() -> None:
    """Entry point of the command."""
    # Nothing is collected at the end: torch and timm leave so much that it takes 1.4 s of a core, and whoever stops
    # a training waits for it.
    atexit.register(gc.freeze)
    ranks.mute_others()
    signal.signal(signal.SIGINT, _interrupted)
    main()


if __name__ == "__main__":
    run()
