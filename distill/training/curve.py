"""Log the points of a training curve: losses, measures on training data and measures on held-out data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.functional import one_hot

from distill.errors import Diverged
from distill.losses import Loss
from distill.metrics.monitor import training_measures
from distill.metrics.smoothing_warnings import has_ceiling, no_effect
from distill.system import ranks
from distill.system.interrupts import Interrupts
from distill.training.ceiling import confidence_ceiling
from distill.training.charts import beside
from distill.training.notices import Notices
from distill.training.recent_samples import RecentSamples, last_samples
from distill.training.state import Run
from distill.training.tracking import MetricWriter, read_metrics

Evaluate = Callable[[nn.Module], dict[str, float]]
"""A function from a model to its measures on held-out data."""
_POINTS = 20  # few enough for readable curves and cheap logging
"""Number of points of a curve, approximately, whatever the length of the run."""


class Curve:
    """Log the training curve of a run to `metrics.jsonl` and TensorBoard; only the first rank has a writer.

    Args:
        run: training whose measures are logged.
        recent: samples and losses since the last point.
        writer: writer of both logs; None on other ranks than the first.
        loss: loss of the training; where it fixes the targets, it also gives the ceiling of confidence.
        evaluate: computes measures on held-out data, logged beside the measures on training data.
        interrupts: signals that may come during an evaluation.
        notices: warnings of the run.
        constant: measures that are known before the first step; every chart of them is a level line.
    """

    def __init__(
        self,
        run: Run,
        recent: RecentSamples,
        writer: MetricWriter | None,
        loss: Loss,
        evaluate: Evaluate | None,
        interrupts: Interrupts,
        notices: Notices,
        constant: Mapping[str, float],
    ):
        self._run, self._recent, self._writer = run, recent, writer
        self._bounding = loss if has_ceiling(run.config) else None
        self._evaluate, self._interrupts, self._notices = evaluate, interrupts, notices
        self._constant = dict(constant)
        self._may_have_no_effect = self._bounding is not None

    def start(self) -> None:
        """Write what is known before the first step: measures of the targets, and warnings about the config."""
        if self._writer is None:
            return
        self._writer.begin(self._run.config)
        for notice in self._notices.kept:
            self._writer.text(0, "warnings", notice.text)
        if self._constant:
            self._writer.record(0, self._constant)

    def end_epoch(self, epoch: int) -> None:
        """Write a point if one is due after this epoch; all ranks must call this."""
        epochs = self._run.config.schedule.epochs
        if (epoch + 1) % math.ceil(epochs / _POINTS) == 0 or epoch + 1 == epochs:
            self._add_point()

    def sync(self) -> None:
        """Force the log onto the disk, before a resume point is written."""
        if self._writer is not None:
            self._writer.sync()

    def _add_point(self) -> None:
        rate = self._recent.rate
        losses = {f"loss/{name}": value for name, value in self._recent.losses().items()}
        measured = self._recent.states()
        ranks.on_first(lambda: self._write_point(measured, losses, rate))  # the others wait
        self._recent.clear()
        if self._writer is not None and self._may_have_no_effect:
            notice = no_effect(read_metrics(self._writer.folder))
            if notice is not None:
                self._notices.tell(notice)
                self._may_have_no_effect = False

    def _write_point(self, measured: list[dict[str, Any]], losses: dict[str, float], rate: float) -> None:
        run, writer = self._run, self._writer
        assert writer is not None, "the first rank has one"
        logits, labels = last_samples(measured)
        values = losses | {f"train/{name}": value for name, value in training_measures(logits, labels).items()}
        if self._bounding is not None:
            progress = (run.step - 1) / max(1, run.total_steps - 1)
            ceiling = confidence_ceiling(self._bounding, labels.to(run.device), logits.shape[1], progress)
            values["train/confidence_ceiling"] = ceiling
        # An evaluation may take minutes, and whoever interrupts a training waits for a second or two only. So a
        # signal saves the state at once.
        with self._interrupts.obeyed_at_once(lambda: run.write(measured)):
            held_out = self._evaluate(run.averaged()) if self._evaluate else {}
        values |= {f"held_out/{name}": value for name, value in held_out.items()}
        if not all(map(math.isfinite, values.values())):
            raise Diverged(run.step, run.lr, math.nan)
        values |= {"lr": run.lr, "images_per_second": rate}
        writer.record(run.step, values)
        terms = losses.keys() - {"loss/total"}
        same = terms if len(terms) == 1 else set()  # one term alone is the total, which every run has
        drawn = {name: value for name, value in values.items() if name not in same} | self._constant
        writer.charts(run.step, drawn | beside(run.config, values | self._constant))
        correct = one_hot(labels, logits.shape[1]).bool()
        writer.histogram(run.step, "logits/correct", logits[correct])
        writer.histogram(run.step, "logits/incorrect", logits[~correct])
