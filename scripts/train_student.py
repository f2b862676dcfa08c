"""Train a student; its artifact's path is the last line printed. The same as `distill student`."""

import sys

from distill.cli.main import main

if __name__ == "__main__":
    main(["student", *sys.argv[1:]])
