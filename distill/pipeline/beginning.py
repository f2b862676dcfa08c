"""Let a training begin with weights from elsewhere, which are adopted first, so that they are an input by key."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from distill.config import AdoptFlags, StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.pipeline.adopting import adoption
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime

_Training = TypeVar("_Training", TeacherConfig, StudentConfig)


def begin_with_weights(
    config: _Training, file: Path | None, store: ArtifactStore, runtime: Runtime, dry: bool = False
) -> _Training:
    """Return the config of a training that begins with a file of weights, and adopt this file.

    Classes and accuracy of the weights are not looked at: a file for 1,000 classes will do for ten.

    Args:
        config: the training, whose network the weights belong to.
        file: the weights; None takes those that a library publishes under the name of the network.
        store: store of the adopted weights.
        runtime: data root and device.
        dry: only find out the key of the weights, and write nothing.

    Raises:
        UserError: the file cannot be read, or is no file of this network.
    """
    # What changes labels alone says nothing of weights: they are adopted once for all of it.
    data = config.data.replace(balanced=False, label_noise=0.0, noise="symmetric", noise_seed=0)
    flags = AdoptFlags(model=config.model, data=data, pretrained=file is None, only_weights=True)
    try:
        adopted = adoption(file, store, runtime, flags)
        if not dry:
            adopted.make()
    except UserError as error:
        field = "init" if error.field in ("file", "pretrained") else error.field
        raise UserError(field, error.value, error.expected, error.way_out) from error
    # The library may know the network under a plainer name than its weights.
    return config.replace(init=adopted.config, model=adopted.config.model)
