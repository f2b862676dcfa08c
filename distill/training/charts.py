"""Say what TensorBoard's charts of a run show, and which charts put hard labels beside smoothed ones."""

from __future__ import annotations

from collections.abc import Mapping

from distill.config import StudentConfig, TeacherConfig
from distill.metrics.measures import BY_NAME
from distill.training.run_table import teachers_smoothing

RENAMED = {"lr": "speed/learning_rate", "images_per_second": "speed/images_per_second"}
"""Name in `metrics.jsonl` → name in TensorBoard, where each first part of a name is a group."""
_WHERE = {
    "train": "on the latest training data",
    "held_out": "on the held-out images",
    "test": "on the test images after the last step, as in the HParams table",
    "targets": "of the soft targets",
}
_EXPLAINED = {
    "loss": "What is minimised. Its scale depends on smoothing, alpha and temperature: compare runs by `train/nll` "
    "and `held_out/nll`, the NLL of hard labels.",
    "train/equivalent_smoothing": "Smoothing that answers on training data amount to, in the uniform convention; "
    "at the optimum that of the targets [Müller et al. 2019, section 4].",
    "train/confidence_ceiling": "Mean confidence of a network that gave exactly its smoothed targets.",
    "speed/images_per_second": "Images per second of training, without evaluations.",
    "speed/learning_rate": "Learning rate of all layers but the last.",
}
_BESIDE = {
    "Inter-class variance of the logits": {"variance": "train/interclass_variance"},
    "Confidence on training data, and its ceiling: what the targets allow": {
        "confidence": "train/confidence",
        "ceiling": "train/confidence_ceiling",
    },
    "Calibration error (ECE) on held-out images": {"ece": "held_out/ece"},
    "γ: the smoothing that answers amount to, and that of the soft targets": {
        "gamma": "train/equivalent_smoothing",
        "gamma_of_targets": "targets/equivalent_smoothing",
    },
}
"""Title of a pair of charts → last part of the name of each line → the scalar that it repeats."""
_PAIRS = {
    "": {"hard labels": "hard_labels", "smoothed labels": "smoothed_labels"},
    "Students: ": {"teacher of hard labels": "hard_teacher", "teacher of smoothed labels": "smoothed_teacher"},
}
"""Beginning of the title → title of each chart → middle part of the names of its lines."""


def beside(config: TeacherConfig | StudentConfig, values: Mapping[str, float]) -> dict[str, float]:
    """Return values again under names that say whether labels were smoothed: a chart chooses lines by name alone.

    A student is named after the labels of its teacher. One whose teacher's labels are unknown has no such names.
    """
    is_student = isinstance(config, StudentConfig) and config.cache is not None
    smoothing = teachers_smoothing(config) if is_student else config.loss.strongest
    if smoothing is None:
        return {}
    side = f"{'smoothed' if smoothing else 'hard'}_{'teacher' if is_student else 'labels'}"
    return {
        f"smoothing/{side}/{line}": values[name]
        for lines in _BESIDE.values()
        for line, name in lines.items()
        if name in values
    }


def layout() -> dict[str, dict[str, list[object]]]:
    """Return the layout of TensorBoard's tab "Custom Scalars", as torch's `custom_scalars` takes it."""
    charts: dict[str, dict[str, list[object]]] = {
        beginning + title: {
            label: ["Multiline", [f"smoothing/{side}/{line}$" for line in lines]] for label, side in sides.items()
        }
        for beginning, sides in _PAIRS.items()
        for title, lines in _BESIDE.items()
    }
    charts["NLL of hard labels: compare runs of different smoothing by this, not by their loss"] = {
        "training data": ["Multiline", ["train/nll$"]],
        "held-out images": ["Multiline", ["held_out/nll$"]],
    }
    return charts


def explained(name: str) -> str:
    """Say what a scalar is and where it was measured, for the "i" of its chart; empty for an unknown one."""
    group, _, last = name.partition("/")
    if known := _EXPLAINED.get(name) or _EXPLAINED.get(group):
        return known
    if group == "smoothing":
        repeated = {line: scalar for lines in _BESIDE.values() for line, scalar in lines.items()}
        return f"{explained(repeated[last.partition('/')[2]])} Repeated here for the tab Custom Scalars."
    measure = BY_NAME.get(last)
    return f"{measure.explained[:1].upper()}{measure.explained[1:]}, {_WHERE.get(group, group)}." if measure else ""
