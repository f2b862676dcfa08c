"""Train a teacher, like `distill teacher`; the last line printed is the path of its artifact."""

import sys

from distill.cli.main import main

if __name__ == "__main__":
    main(["teacher", *sys.argv[1:]])
