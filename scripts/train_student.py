"""Train a student, like `distill student`; the last line printed is the path of its artifact."""

import sys

from distill.cli.main import main

if __name__ == "__main__":
    main(["student", *sys.argv[1:]])
