"""Run stage 1: train a teacher from labels, with or without label smoothing."""

from __future__ import annotations

from pathlib import Path

from distill.config import TeacherConfig
from distill.data.batch_share import BatchShare
from distill.data.loader import Loader
from distill.data.sets.load import load
from distill.data.tokens import refuse_for_tokens
from distill.data.views.views import Views
from distill.losses import make_loss
from distill.store.inputs import Inputs
from distill.store.outcome import Outcome
from distill.system.runtime import Runtime
from distill.training.class_weights import class_weights
from distill.training.targets import smoothing_matrix
from distill.training.train import train_network


def train_teacher(config: TeacherConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Train the teacher of `config` in `folder`: weights, predictions, `metrics.jsonl` and `tb/`.

    Raises:
        UserError: model and data do not fit each other, or an input is missing.
        Diverged: a loss was not finite.
    """
    begins_with = inputs.optional(config.init)
    dataset = load(config.data, runtime.data_root, runtime.progress)
    # The weights of a network are worth what they are on images that are normalised as it knows them.
    dataset = dataset.normalised_as(begins_with and begins_with.data)
    refuse_for_tokens(dataset, config.data, config.augment)
    device, channels_last = runtime.torch_device(), runtime.channels_last
    views = Views.of_training(dataset, config.augment, config.seed, device, channels_last)
    share = BatchShare.here(config.schedule.parts)
    loader = Loader(
        views,
        config.schedule.batch_size,
        config.seed,
        workers=runtime.workers_for(),
        share=share,
        balanced=config.data.balanced,
    )
    source = inputs.optional(config.smoothing_source)
    weights = class_weights(config.loss, dataset)
    loss = make_loss(config.loss, smoothing_matrix(config.loss, dataset, source), weights)
    return train_network(config, dataset, loader, loss, folder, runtime, begins_with=begins_with)
