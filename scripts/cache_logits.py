"""Write a teacher's logits to disk; the cache's path is the last line printed. The same as `distill cache`."""

import sys

from distill.cli.main import main

if __name__ == "__main__":
    main(["cache", *sys.argv[1:]])
