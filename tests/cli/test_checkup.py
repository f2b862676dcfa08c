"""The command checkup: what it prints of a network, of logits and of two teachers, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distill.metrics.dark_knowledge import optimal_gap
from tests.cli.commands import fail, run


@pytest.fixture
def files(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with logits of ε = 0.2 and their labels."""
    monkeypatch.chdir(folders)
    labels = np.arange(300) % 10
    logits = np.zeros((300, 10), np.float32)
    logits[np.arange(300), labels] = optimal_gap(0.2, 10)
    np.save(folders / "logits.npy", logits)
    np.save(folders / "labels.npy", labels)
    return folders


def test_logits_of_smoothed_labels_are_told_with_numbers_and_a_page(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run(capsys, "checkup", "logits.npy")
    assert "smoothed with ε = 0.200" in told
    assert "under-confident" in told
    assert "Chandrasegaran" in told
    assert "24 bytes an image" in told
    page = (files / "checkup.html").read_text(encoding="utf-8")
    assert page.index("<figure>") < page.index("smoothed with ε = 0.200")
    assert "prefers-color-scheme: dark" in page
    assert "<script" not in page


def test_json_has_every_sentence_of_the_screen(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "checkup", "logits.npy")
    (found,) = json.loads(run(capsys, "checkup", "logits.npy", "--json"))
    assert found["numbers"]["smoothing"]["smoothing"] == pytest.approx(0.2, rel=1e-4)
    assert all(each["text"] in told and each["basis"] in told for each in found["findings"])


def test_two_teachers_are_on_one_page(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(files / "hard.npy", 4 * np.load(files / "logits.npy"))
    told = run(capsys, "checkup", "logits.npy", "hard.npy", "--page", "two.html")
    assert "smoothed with" in told
    assert "not smoothed" in told
    assert "logits.npy and hard.npy" in (files / "two.html").read_text(encoding="utf-8")


def test_a_network_of_the_store_is_measured_on_its_held_out_images(
    teacher: Path, folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    told = run(capsys, "checkup", str(teacher), "--split", "train", "--device", "cpu")
    assert "training images of digits" in told
    assert "its record says ε = " in told
    assert f"distill cache --teacher {teacher}" in told


def _changed(name: str, files: Path) -> list[str]:
    logits, labels = np.load(files / "logits.npy"), np.load(files / "labels.npy")
    match name:
        case "nan":
            logits[3, 4] = np.nan
        case "one class":
            logits = logits[:, :1]
        case "views":
            logits = logits[:, None].repeat(2, 1)
        case "few":
            logits, labels = logits[:50], labels[:50]
        case "mismatch":
            labels = labels[:-1]
        case "one label":
            labels[:] = 3
        case "other classes":
            labels[0] = 10
        case "labels of fractions":
            labels = labels + 0.5
    np.save(files / "logits.npy", logits)
    np.save(files / "labels.npy", labels)
    return ["logits.npy"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nan", "inf or nan in row 3"),
        ("one class", "two classes or more"),
        ("views", "one view"),
        ("few", "100 or more right answers"),
        ("mismatch", "a label for each row"),
        ("one label", "all 3"),
        ("other classes", "classes 0 to 9"),
        ("labels of fractions", "whole numbers"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    name: str, said: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in fail(capsys, "checkup", *_changed(name, files))


def test_missing_labels_folders_and_a_third_teacher_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "one teacher, or two" in fail(capsys, "checkup", *3 * ["logits.npy"])
    assert "--page" in fail(capsys, "checkup", "logits.npy", "--page", "none/page.html")
    assert "Check the path" in fail(capsys, "checkup", "logits.npy", "--labels", "none.npy")
    (files / "labels.npy").unlink()
    assert "no labels for 300 rows" in fail(capsys, "checkup", "logits.npy")
