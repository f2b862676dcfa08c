"""Write a teacher's logits to disk, like `distill cache`; the last line printed is the path of the cache."""

import sys

from distill.cli.main import main

if __name__ == "__main__":
    main(["cache", *sys.argv[1:]])
