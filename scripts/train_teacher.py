"""Train a teacher; its artifact's path is the last line printed. The same as `distill teacher`."""

import sys

from distill.cli.main import main

if __name__ == "__main__":
    main(["teacher", *sys.argv[1:]])
