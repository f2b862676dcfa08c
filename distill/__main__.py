"""`python -m distill` is the command `distill`; what torchrun starts as several ranks speaks with one voice."""

import atexit
import gc

from distill import ranks
from distill.cli import main

if __name__ == "__main__":
    # Nothing is collected at the end: torch and timm leave so much that it takes 1.4 s of a core, and whoever stops
    # a training waits for it.
    atexit.register(gc.freeze)
    ranks.mute_others()
    main()
