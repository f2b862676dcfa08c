"""Hints for a command or a flag that does not exist: only the wrong word is repeated, and three are the most."""

from __future__ import annotations

import pytest

from tests.cli.commands import fail


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("train", "command = 'train': expected a command of distill. Close to it: teacher, student."),
        ("techer", "command = 'techer': expected a command of distill. Close to it: teacher."),
        ("xyz", "command = 'xyz': expected a command of distill. `distill --help` lists them."),
        ("teacher --seeds 3 --jobs 2", "It is a flag of `distill sweep-smoothing`."),
        ("teacher --weight-decay 0.1", "Perhaps you meant: --optim.weight-decay."),
        ("teacher --optim.epochs 3", "Perhaps you meant: --schedule.epochs."),
        ("teacher --label-smoothing=0.1", "Perhaps you meant: --loss.smoothing."),
        ("teacher --learning_rate 0.1", "Perhaps you meant: --optim.lr."),
        ("teacher --lerning-rate 0.1", "Perhaps you meant: --optim.lr."),
        ("student --kwargs a=1", "Perhaps you meant: --augment.kwargs, --data.kwargs, --loss.kwargs."),
        ("teacher --loss.alpha 1", "It is a flag of `distill student`."),
        ("student --teacher x", "A student reads a cache: make one with `distill cache --teacher …`"),
        ("sweep-smoothing --smoothing=0.1", "Perhaps you meant: --smoothings."),
        ("ls --jsn", "flag = '--jsn': expected a flag of `distill ls`. Perhaps you meant: --json."),
        ("teacher --qqq", "flag = '--qqq': expected a flag of `distill teacher`. `distill teacher --help` lists"),
        ("teacher -x", "flag = '-x': expected a flag of `distill teacher`."),
        ("sweep-smoothing --smoothings=0,0.1", "'0,0.1': expected spaces between the numbers, not commas"),
        ("sweep-smoothing --smoothings 0, 0.1", "Write --smoothings 0 0.1."),
        ("show A B", "artifact = 'B': expected only one. `distill show` takes one at a time."),
        ("show", "artifact = None: expected path or key of the artifact. Write it after the command."),
        ("export x", "--to = None: expected folder to write, new or empty. Add --to."),
        ("teacher 3", "word = '3': expected a flag of distill teacher."),
        ("teacher --device gpu", "--device = 'gpu': expected 'auto', 'cpu', 'cuda' or 'mps'. Its meaning: Device"),
        ("teacher --trust=yes", "--trust = 'yes': expected no value: it is a switch. Write --trust alone."),
        ("teacher --lr --seed 3", "--optim.lr = 'nothing': expected a value after it. Its meaning: Peak"),
        ("reproduce x --jobs many", "--jobs = 'many': expected a valid integer."),
    ],
)
def test_a_wrong_word_is_told_with_what_was_meant(
    arguments: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fail(capsys, *arguments.split())
    assert told in line
    assert len(line) < 400
    assert "arguments = " not in line
