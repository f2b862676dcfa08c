"""Stage 1: a teacher, trained from labels with or without label smoothing."""

from __future__ import annotations

from pathlib import Path

from distill.artifact import Artifact
from distill.config import TeacherConfig
from distill.data.datasets import load
from distill.data.loader import Loader
from distill.data.tokens import refuse_augment
from distill.losses import make_loss
from distill.metrics.smoothing_warnings import label_terms
from distill.models import check_model
from distill.network import Outcome, train_network
from distill.runtime import Runtime
from distill.shares import Shares
from distill.smoothing import smoothing_matrix


def train_teacher(config: TeacherConfig, source: Artifact | None, folder: Path, runtime: Runtime) -> Outcome:
    """Train the teacher of `config` in `folder`: weights, predictions, `metrics.jsonl` and `tb/`.

    `source` is the network that `smoothing_source` names.

    Raises:
        UserError: model and data do not fit each other, or an input is missing.
        Diverged: a loss was not finite.
    """
    dataset = load(config.data, runtime.data_root, runtime.progress)
    refuse_augment(dataset, config.augment)
    check_model(config.model, len(dataset.classes), dataset.shape, dataset.label_shape)
    loader = Loader(
        dataset.train,
        dataset.mean,
        dataset.std,
        config.augment,
        seed=config.seed,
        batch_size=config.schedule.batch_size,
        device=runtime.torch_device(),
        channels_last=runtime.channels_last,
        num_classes=len(dataset.classes),
        workers=runtime.workers_for(),
        shares=Shares.here(config.schedule.parts),
    )
    targets = label_terms(config)
    loss = make_loss(targets, smoothing_matrix(targets, dataset, source))
    return train_network(config, dataset, loader, loss, folder, runtime)
