"""Make the matrix of smoothed targets, a row per class, for smoothing that one ε cannot describe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.config import IGNORED, TOWARDS, Kwargs, LossConfig, SweepConfig
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.errors import UserError
from distill.losses import in_uniform, matrices
from distill.metrics.dark_knowledge import class_similarity
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_predictions, refuse_no_held_out

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def smoothing_matrix(config: LossConfig, dataset: Dataset, source: Artifact | None) -> Float[Tensor, "k k"] | None:
    """Return the matrix whose row y is the target of label y, or None where a single ε describes the targets.

    Args:
        config: strength of smoothing, and where its mass goes.
        dataset: data set that has the classes.
        source: network that `smoothing_source` names; only its held-out predictions are read.

    Raises:
        UserError: there is not one ε per class, the tree or the matrix does not have these classes, or the source
            has other classes or no held-out predictions.
    """
    labels, classes = config.labels, dataset.num_classes
    most = max(1.0, labels.first)  # a falling schedule starts above the smoothing of the config
    if not labels.per_class and labels.towards == "all":
        if config.smoothing_convention != "maxsup":
            in_uniform(most * config.smoothing, config.smoothing_convention, classes)
        return None
    if labels.per_class and len(labels.per_class) != classes:
        expected = f"one for each of the {classes} classes: {', '.join(dataset.classes)}"
        raise UserError("labels.per_class", labels.per_class, expected, "Give as many.")
    towards = _towards(config, dataset, source)
    strengths = labels.per_class or (config.smoothing,) * classes
    # Called for its checks only: it refuses targets in which another class outweighs the label.
    matrices.smoothed([most * each for each in strengths], towards, config.smoothing_convention)
    return matrices.smoothed(strengths, towards, config.smoothing_convention)


def check_sweep(config: SweepConfig, store: ArtifactStore, runtime: Runtime) -> None:
    """Refuse a sweep without held-out images or with invalid targets, before anything is trained.

    Raises:
        UserError: no image is held out, `smoothing_matrix` refuses the targets of the strongest smoothing, or the
            data are not here.
    """
    networks = config.networks()
    strongest = networks[max(config.smoothings), config.teacher.seed]
    source = strongest.smoothing_source
    network = store.find(source) if source else None
    if source is None or network is not None:  # a source that is not here is trained first, and checked then
        dataset = load(strongest.data, runtime.data_root, runtime.progress)
        refuse_no_held_out(strongest.data, len(dataset.held_out), "a sweep")
        smoothing_matrix(strongest.loss, dataset, network)


def _towards(config: LossConfig, dataset: Dataset, source: Artifact | None) -> Float[Tensor, "k k"]:
    labels, classes = config.labels, dataset.num_classes
    arguments: Kwargs = {**TOWARDS[labels.towards].defaults, **labels.kwargs}
    match labels.towards:
        case "all":
            return matrices.towards_all(classes)
        case "hierarchy":
            return matrices.towards_near(arguments["tree"], dataset.classes, arguments["beta"])
        case "matrix":
            return matrices.towards_given(arguments["rows"], dataset.classes)
        case "confusions":
            logits, held_out = _held_out(dataset, source)
            return matrices.towards_confused(logits.argmax(1), held_out, classes, arguments["count"])
        case "similar":
            logits, held_out = _held_out(dataset, source)
            similarity = class_similarity(logits, held_out, arguments["temperature"])
            # A class that is never a label (the padding of sentences) is never smoothed either.
            absent = held_out.bincount(minlength=classes) == 0
            similarity[absent] = 1.0
            return matrices.towards_similar(similarity)


def _held_out(dataset: Dataset, source: Artifact | None) -> tuple[Tensor, Tensor]:
    assert source is not None, "the config was checked"
    if source.data["classes"] != list(dataset.classes):
        expected = f"a network with the classes of {dataset.name}: {', '.join(dataset.classes)}"
        raise UserError("smoothing_source", str(source.path), expected, "Name another.")
    logits, labels = load_predictions(source, "held_out")
    taught = dataset.train.labels
    missing = set(taught[taught != IGNORED].unique().tolist()) - set(labels.unique().tolist())
    if missing:
        expected = f"a network with held-out samples of every class; of {sorted(missing)} it has none"
        way_out = "Train it with a larger `data.held_out`, or name another."
        raise UserError("smoothing_source", str(source.path), expected, way_out)
    return logits, labels
