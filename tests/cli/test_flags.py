"""Flags: those that a command has, and values that are none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distill.cli.main import main
from distill.cli.stage_flags import parse_config
from distill.errors import UserError
from tests.cli.commands import fail, run
from tests.store.records import sealed


def test_a_wrong_kind_of_artifact_is_refused(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the artifact of a cache, this is a teacher" in fail(capsys, "student", "--cache", str(teacher))


def test_an_artifact_of_another_form_is_no_input_and_not_deleted(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((teacher / "record.json").read_text())
    older = record | {"key": "0" * 64}  # as if a field had been added to configs since
    (teacher / "record.json").write_bytes(sealed(older))
    assert "of another form" in run(capsys, "gc", "--delete")
    with pytest.raises(SystemExit) as stopped:
        main(["cache", "--teacher", str(teacher)])
    assert stopped.value.code == 2
    assert "an artifact of this version" in capsys.readouterr().err


def test_help_of_a_sweep_has_the_flags_of_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    def flags(command: str) -> set[str]:
        return set(re.findall(r"--[\w.-]+", run(capsys, command, "--help")))

    of_teacher, of_sweep = flags("teacher"), flags("sweep-smoothing")
    assert of_sweep - of_teacher == {"--smoothings", "--seeds", "--bins"}
    assert of_teacher - of_sweep == {"--loss.smoothing", "--smoothing", "--loss.labels.per-class"}


@pytest.mark.parametrize(
    ("words", "kwargs"),
    [
        (["widths=[256,256]"], {"widths": [256, 256]}),
        (["widths=[8]", "dropout=0.5"], {"widths": [8], "dropout": 0.5}),
        (['{"widths": [8]}', "dropout=0.5"], {"widths": [8], "dropout": 0.5}),
        (["a=b=c", "d=true", "e=None", "f="], {"a": "b=c", "d": True, "e": "None", "f": ""}),
    ],
)
def test_arguments_are_pairs_or_json(words: list[str], kwargs: dict[str, object]) -> None:
    for flag in ("--model.kwargs", "--optim.kwargs"):
        config, _ = parse_config("teacher", [flag, *words, "--seed", "3"])
        assert getattr(config, flag[2:].partition(".")[0]).kwargs == kwargs
        assert config.seed == 3
    again, _ = parse_config("teacher", ["--model.kwargs", *words[:1], "--model.kwargs", *words])
    assert again.model.kwargs == kwargs


def test_short_names_are_those_of_the_fields() -> None:
    short = "--data mnist --model cnn --epochs 2 --batch-size 8 --lr 0.3 --seed 4 --smoothing 0.1"
    dotted = (
        "--data.name mnist --model.name cnn --schedule.epochs 2 --schedule.batch_size 8 --optim.lr=0.3 --seed 4"
    )
    assert parse_config("teacher", short.split()) == parse_config(
        "teacher", [*dotted.split(), "--loss.smoothing=0.1"]
    )
    with pytest.raises(UserError, match="given twice"):
        parse_config("teacher", ["--smoothing-source", "a", "--smoothing-source=b"])


def test_values_are_read_as_their_types() -> None:
    words = (
        "--optim.clip None --augment.flip --loss.labels.no-on-mixed --schedule.decay-epochs 1 2.5 --optim.lr 1e-3"
    )
    config, runtime = parse_config("teacher", [*words.split(), "--no-progress", "--store", "~/x"])
    assert (config.optim.clip, config.augment.flip, config.schedule.decay_epochs) == (None, True, (1.0, 2.5))
    for words, weights in ((["balanced"], "balanced"), (["1", "2.5"], (1.0, 2.5))):
        assert parse_config("teacher", ["--loss.class-weights", *words])[0].loss.class_weights == weights
    assert (config.optim.lr, runtime.progress, runtime.store) == (0.001, False, Path("~/x").expanduser())
