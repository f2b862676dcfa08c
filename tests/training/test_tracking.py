from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.training.tracking import MetricWriter, read_metrics, warn
from tests.memory import forget_warnings


def test_a_resumed_run_drops_what_lies_after_its_step(tmp_path: Path) -> None:
    with MetricWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.scalars(step, {"loss": 1 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # the process was killed in the middle of a line
    with MetricWriter(tmp_path, start_step=2) as writer:
        writer.scalars(3, {"loss": 9.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["loss"] == 9
    events = EventAccumulator(str(tmp_path / "tb")).Reload().Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3]
    assert events[-1].value == 9


@pytest.mark.parametrize("values", [torch.arange(1000.0), torch.full((5,), 2.0), torch.tensor([3.0])])
def test_a_histogram_counts_every_value(tmp_path: Path, values: torch.Tensor) -> None:
    with MetricWriter(tmp_path) as writer:
        writer.histogram(1, "logits", values)
    accumulator = EventAccumulator(str(tmp_path / "tb"), size_guidance={"histograms": 0}).Reload()
    (event,) = accumulator.Histograms("logits")
    histogram = event.histogram_value
    assert sum(histogram.bucket) == histogram.num == len(values)
    assert (histogram.min, histogram.max) == (values.min(), values.max())
    assert histogram.sum == pytest.approx(values.sum().item())


def test_a_scalar_says_what_it_is_once_per_file(tmp_path: Path) -> None:
    with MetricWriter(tmp_path) as writer:
        for step in (1, 2):
            writer.scalars(step, {"train/nll": 0.5, "lr": 0.1})
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert "log-likelihood" in events.SummaryMetadata("train/nll").summary_description
    assert [event.value for event in events.Scalars("train/nll")] == [0.5, 0.5]
    assert "speed/learning_rate" in events.Tags()["scalars"]
    (file,) = (tmp_path / "tb").iterdir()
    assert file.read_bytes().count(b"log-likelihood") == 1


def test_of_one_kind_the_first_warnings_of_a_process_are_shown(capsys, monkeypatch) -> None:
    forget_warnings(monkeypatch)
    for number in range(5):
        warn("under-confident", f"network {number}")
    warn("no effect", "another kind")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["warning: network 0", "warning: network 1"]
    assert lines[2].startswith("warning: network 2")
    assert "warnings.json" in lines[2]
    assert lines[3:] == ["warning: another kind"]


def test_what_was_logged_is_read_again(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    with MetricWriter(tmp_path) as writer:
        writer.scalars(1, {"train/nll": 0.5})
        writer.scalars(2, {"train/nll": 0.25})
    assert read_metrics(tmp_path) == [{"step": 1, "train/nll": 0.5}, {"step": 2, "train/nll": 0.25}]
