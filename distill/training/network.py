"""Load the weights, the predictions and the training data of a trained network from disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from distill.config import AdoptedConfig, DataConfig, NetworkConfig, StoredSplit, StudentConfig, TeacherConfig
from distill.data.network_input import NetworkInput
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.errors import UserError
from distill.models import build_model
from distill.models.build import Chosen, refuse_larger
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.files import expanded
from distill.system.reading import check_safetensors, read_tensors
from distill.system.runtime import Runtime
from distill.training.kept_weights import snapshot_file

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor


WEIGHTS = "model.safetensors"
PREDICTIONS = "predictions.safetensors"
WARNINGS = "warnings.json"
"""File of warnings about a network, kind → one line; missing where there is none."""


def load_network(artifact: Artifact | str | Path, device: str = "cpu", step: int | None = None) -> nn.Module:
    """Load the network of a teacher or student artifact, in evaluation mode.

    Args:
        artifact: artifact of a teacher or a student, or its path.
        device: device of the network.
        step: step of a snapshot (`snapshot_steps`); None takes the weights at the end.

    Raises:
        UserError: the artifact holds no network or no such snapshot, or its weights are damaged.
    """
    if not isinstance(artifact, Artifact):
        path = expanded(Path(artifact))
        artifact = ArtifactStore(path.parent.parent).read(path)
    config = network_config(artifact)
    if step is not None and step not in snapshot_steps(artifact):
        expected = f"a step whose weights were kept: {snapshot_steps(artifact)}"
        raise UserError("step", step, expected, "Train it with `snapshots`.")
    outputs, shape = _outline(artifact)
    path = artifact.file(WEIGHTS if step is None else snapshot_file(step))
    refuse_larger(config.model, outputs, shape, path.stat().st_size)
    model = build_model(config.model, outputs, shape)
    check_safetensors(path)
    try:
        load_model(model, path)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        way_out = "Delete its folder, and train it again."
        raise UserError(str(path), reason, f"weights of {config.model.name}", way_out) from error
    if isinstance(config, AdoptedConfig) and config.columns:
        model = Chosen(model, config.columns)
    return model.to(device).eval()


def _outline(artifact: Artifact) -> tuple[int, tuple[int, int, int]]:
    """Return the number of a network's outputs and the shape of its input."""
    config, shape = network_config(artifact), NetworkInput.of(artifact.data).shape
    return config.outputs if isinstance(config, AdoptedConfig) else len(artifact.data["classes"]), shape


def training_data(artifact: Artifact, runtime: Runtime) -> Dataset:
    """Load the data set that a network was trained on.

    Raises:
        UserError: the data set is missing, or other images are in its place.
    """
    dataset = load(network_config(artifact).data, runtime.data_root, runtime.progress)
    if artifact.data["fingerprint"] != dataset.fingerprint:
        way_out = "Bring back the data that it was trained on, or train it again."
        raise UserError("data", dataset.name, f"the images that {artifact.path.name} was trained on", way_out)
    return dataset


def snapshot_steps(artifact: Artifact) -> list[int]:
    """Return the numbers of updates after which weights were kept, ascending from 0; none without `snapshots`.

    Raises:
        UserError: the artifact is of another stage.
    """
    network_config(artifact)
    return sorted(int(Path(name).stem) for name in artifact.record.files if name.startswith("snapshots/"))


def snapshot_step(artifact: Artifact, part: int) -> int:
    """Return after how many updates snapshot number `part` was saved; number 0 is the initial weights.

    Raises:
        UserError: the network keeps no such snapshot.
    """
    steps, parts = snapshot_steps(artifact), network_config(artifact).snapshots
    if not 0 <= part <= parts or not steps:
        raise UserError("snapshot", part, f"0 to {parts} for this network", "Train it with more `snapshots`.")
    return round(part * steps[-1] / parts)


def weights_file(artifact: Artifact, part: int | None) -> str:
    """Return the file name of a network's final weights (`part` is None), or of its snapshot number `part`."""
    return WEIGHTS if part is None else snapshot_file(snapshot_step(artifact, part))


def network_config(artifact: Artifact) -> NetworkConfig:
    """Return the config of a network that was trained here, or adopted.

    Raises:
        UserError: the artifact is of another stage, or nothing but its weights is known.
    """
    config = artifact.config
    if isinstance(config, AdoptedConfig):
        config.refuse_only_weights()
    if not isinstance(config, TeacherConfig | AdoptedConfig | StudentConfig):
        way_out = "List them with `distill ls`."
        raise UserError(
            "artifact", str(artifact.path), f"a teacher or a student, this is a {config.stage}", way_out
        )
    return config


def load_predictions(artifact: Artifact, split: StoredSplit) -> tuple[Float[Tensor, "n k"], Int64[Tensor, " n"]]:
    """Load the logits and labels that a network stored at the end of its training.

    Raises:
        UserError: the artifact is of another stage, or its file is damaged.
    """
    network_config(artifact)
    path, logits, labels = artifact.file(PREDICTIONS), f"{split}.logits", f"{split}.labels"
    stored = read_tensors(path, {logits: "F32 n k", labels: "I64 n"})
    classes = stored[logits].shape[1]
    if len(stored[labels]) and not 0 <= int(stored[labels].min()) <= int(stored[labels].max()) < classes:
        way_out = "Delete its folder, and train it again."
        raise UserError(f"{path}, {labels}", "other numbers", f"classes 0 to {classes - 1}", way_out)
    return stored[logits], stored[labels]


def refuse_no_held_out(network: Artifact | DataConfig, images: int, what: str) -> None:
    """Refuse to do something on held-out images, of which the data set of a network has none.

    Raises:
        UserError: there are no images.
    """
    if images:
        return
    data = network if isinstance(network, DataConfig) else network_config(network).data
    expected = f"a share that holds out one image or more, since {what} needs images not trained on"
    raise UserError("data.held_out", data.held_out, expected, hold_out(data))


def hold_out(data: DataConfig) -> str:
    """Say how to train a network again so that it has held-out images."""
    # The share of a class is rounded to whole images.
    if data.held_out:
        return "Train it on more images, or with a larger `data.held_out`."
    return "Train it again with `data.held_out=0.1`."
