"""Train a network, and store its weights, its predictions and warnings about its label smoothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file, save_model
from torch import nn

from distill.config import StudentConfig, TeacherConfig
from distill.data.loader import Join, Loader, Normaliser
from distill.data.sets.dataset import Dataset, Split
from distill.errors import Diverged
from distill.losses import Loss
from distill.metrics.monitor import calibration_figure, confidence_figure, evaluation_measures
from distill.metrics.positions import counted
from distill.metrics.smoothing_warnings import Notice, mixed_labels, no_effect, not_used, under_confidence
from distill.models import build_model
from distill.store.key import key
from distill.store.outcome import Outcome
from distill.system import ranks
from distill.system.runtime import Runtime
from distill.training.loop import fit
from distill.training.network import PREDICTIONS, WARNINGS, WEIGHTS
from distill.training.predict import predict
from distill.training.seeds import reproducible
from distill.training.tracking import MetricWriter, read_metrics, warn

if TYPE_CHECKING:
    from torch import Tensor


def train_network(
    config: TeacherConfig | StudentConfig,
    dataset: Dataset,
    loader: Loader,
    loss: Loss,
    folder: Path,
    runtime: Runtime,
    teacher: Join | None = None,
    targets: Mapping[str, float] | None = None,
) -> Outcome:
    """Train the network of `config`, and store its weights and its predictions in `folder`.

    The test set is read once, after the last step. Measures during training are of the held-out split. Measures of
    the soft targets (`targets`) are logged before the first step and stored in the record.

    Warnings about label smoothing go to TensorBoard's text `warnings` and to the file `WARNINGS`. Where progress is
    shown (not in a pool of stages) they are printed on stderr too.
    """
    device = runtime.torch_device()
    of_targets = {f"targets/{name}": value for name, value in (targets or {}).items()}
    held_out = _evaluation(dataset, dataset.held_out, device)
    told: dict[str, Notice] = {}

    def tell(notice: Notice) -> None:
        if notice.kind not in told and runtime.progress:
            warn(notice.kind, notice.text)
        told[notice.kind] = notice

    before = _known(not_used(config), mixed_labels(config, len(dataset.classes)))
    for notice in before:
        tell(notice)
    with reproducible(config.seed):
        model = build_model(config.model, len(dataset.classes), dataset.shape).to(device)
        if runtime.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        model = fit(
            model,
            loader,
            loss,
            config,
            folder,
            runtime,
            teacher,
            evaluate=lambda model: evaluation_measures(*held_out(model)),
            at_start=of_targets,
            notices=before,
            tell=tell,
        )

    def write() -> Outcome:
        predictions = {"held_out": held_out(model), "test": _evaluation(dataset, dataset.test, device)(model)}
        if not all(torch.isfinite(logits).all() for logits, _ in predictions.values()):
            raise Diverged(len(loader) * config.schedule.epochs, config.optim.lr, math.nan)
        metrics = {
            f"{name}/{measure}": value
            for name, (logits, labels) in predictions.items()
            for measure, value in evaluation_measures(logits, labels).items()
        }
        metrics |= of_targets
        points = read_metrics(folder)
        after = _known(no_effect(points), under_confidence(config, *predictions["held_out"], key(config)[:8]))
        for notice in after:
            tell(notice)
        _finish_log(config, *predictions["test"], metrics, points, after, loader, folder)
        if found := {notice.kind: notice.text for notice in before + after}:
            (folder / WARNINGS).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        save_model(model.to(memory_format=torch.contiguous_format), str(folder / WEIGHTS))  # pyright: ignore[reportCallIssue]
        save_file(
            {
                "held_out.logits": predictions["held_out"][0],
                "held_out.labels": predictions["held_out"][1].clone(),
                "test.logits": predictions["test"][0],
                "test.labels": predictions["test"][1].clone(),
            },
            str(folder / PREDICTIONS),
        )
        return Outcome(metrics, dataset.identity())

    return ranks.on_first(write)


def _known(*notices: Notice | None) -> list[Notice]:
    return [notice for notice in notices if notice is not None]


def _evaluation(dataset: Dataset, split: Split, device: str) -> Callable[[nn.Module], tuple[Tensor, Tensor]]:
    """Return a function from a model to its logits and the labels on a split, without ignored positions."""
    normalise = Normaliser(dataset.mean, dataset.std, device)
    none = torch.empty(0, *dataset.label_shape, len(dataset.classes))
    return lambda model: counted(
        predict(model, split.images, normalise, device) if len(split) else none, split.labels
    )


def _finish_log(
    config: TeacherConfig | StudentConfig,
    logits: Tensor,
    labels: Tensor,
    metrics: dict[str, float],
    points: list[dict[str, float]],
    notices: list[Notice],
    loader: Loader,
    folder: Path,
) -> None:
    step = len(loader) * config.schedule.epochs
    with MetricWriter(folder, step) as writer:
        writer.hparams(config.model_dump(mode="json"), metrics)
        writer.figure(step, "test/reliability", calibration_figure(logits, labels))
        if bounded := [point for point in points if "train/confidence_ceiling" in point]:
            # `train/confidence` is a scalar already: TensorBoard shows only the first kind of data under a name.
            writer.figure(step, "train/confidence_curve", confidence_figure(bounded))
        for notice in notices:
            writer.text(step, "warnings", notice.text)
