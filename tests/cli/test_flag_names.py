"""Fields that the library names are flags in the errors of the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from distill.cli.commands import COMMANDS
from distill.cli.flag_names import error_text, flag
from distill.errors import Diverged, UserError
from distill.pipeline.executors.failures import Failure, StagesFailed

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("way_out", "told"),
    [
        ("Lower `optim.lr`.", "Lower --optim.lr."),
        ("Set `optim.clip=1` or `data.held_out=0.1`.", "Set --optim.clip 1 or --data.held-out 0.1."),
        ('Set `data.kwargs={"size": 64}`.', "Set --data.kwargs '{\"size\": 64}'."),
        ("Set `loss.labels.on_mixed=True`.", "Set --loss.labels.on-mixed."),
        ("Set `compile=False`, `augment.flip=False`.", "Set --no-compile, --augment.no-flip."),
        (
            "Raise `min_teacher_accuracy` or `smoothing_source`.",
            "Raise --min-teacher-accuracy or --smoothing-source.",
        ),
        (
            "See `distill ls`, `optim`, `optim.beta=1`, optim.lr.",
            "See `distill ls`, `optim`, `optim.beta=1`, optim.lr.",
        ),
        ("A teacher has no `loss.alpha`, and no `views=2`.", "A teacher has no `loss.alpha`, and no `views=2`."),
    ],
)
def test_fields_of_a_command_are_its_flags(way_out: str, told: str) -> None:
    error = UserError("optim.weight_decay", "`optim.lr`", "less than `optim.lr`", way_out)
    error.add_note("  stage    teachers/a, with `jobs=2`")
    first, note = error_text(error, COMMANDS["teacher"].fields).splitlines()
    assert first.startswith("--optim.weight-decay = ")
    assert first.endswith(f"expected less than --optim.lr. {told}")
    assert note == "  stage    teachers/a, with --jobs 2"
    assert str(error) == f"optim.weight_decay = '`optim.lr`': expected less than `optim.lr`. {way_out}"


def test_errors_of_several_stages_name_flags_too() -> None:
    failures = {
        "teachers/a": Failure(UserError("data", "no", "one", "Drop `data`.")),
        "b": Failure(ValueError("`data`")),
    }
    told = error_text(StagesFailed(failures), COMMANDS["reproduce"].fields)
    assert told.splitlines()[0] == "error: teachers/a: --data = 'no': expected one. Drop --data."
    offline = UserError("data.name", "cifar100", "its files", "Use `data.name=digits`.")
    told = error_text(offline, COMMANDS["reproduce"].fields)
    assert told == "--data = 'cifar100': expected its files. Use --data digits."
    assert "Use --data.name digits" in error_text(offline, COMMANDS["teacher"].fields)
    diverged = StagesFailed({"teachers/a": Failure(Diverged(3, 0.1, float("nan")))})
    assert "Lower `optim.lr`" in error_text(diverged, COMMANDS["reproduce"].fields), "its configs are files"
    assert "Lower --optim.lr or set --optim.clip 1;" in error_text(diverged, COMMANDS["teacher"].fields)


def literals(path: Path) -> list[str]:
    """The strings of a file; of an f-string, the text with a mark for each value."""
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    joined = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    parts = {part for values in joined for part in values}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and node not in parts]
    marked = [
        "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in values) for values in joined
    ]
    return [text for text in [*texts, *marked] if isinstance(text, str)]


def test_only_the_command_line_speaks_of_flags() -> None:
    """Whole commands and what is appended to one, which begins with the flag, may have them."""
    flags = {flag(field) for command in COMMANDS.values() for field in command.fields}
    told = [
        f"{path.relative_to(ROOT)}: {' '.join(text.split())}"
        for path in sorted((ROOT / "distill").rglob("*.py"))
        for text in literals(path)
        if path.parent.name not in ("cli", "integrations")  # whose programs have flags of their own
        and flags & {*re.findall(r"(?<=\S[ (])--[\w.-]*\w", re.sub(r"\bdistill [\w-]+ [^`;]*", "", text))}
    ]
    assert told == []
