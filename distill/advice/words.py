"""Configs in plain words."""

from __future__ import annotations

from collections.abc import Iterable

from distill.advice.statement import counted
from distill.config import (
    AugmentConfig,
    DataConfig,
    LabelsConfig,
    LossConfig,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
)


def teacher_words(config: TeacherConfig) -> str:
    """Network and labels of a teacher: "cnn with ε = 0.1"."""
    return f"{model_words(config.model)} {labels_words(config)}"


def labels_words(config: TeacherConfig | LossConfig) -> str:
    """What it is taught of its labels: "with ε = 0.1 (uniform)", "without smoothing"."""
    labels, usual = config.labels, LabelsConfig()
    if labels.per_class:
        words = f"with ε = {min(labels.per_class):g} to {max(labels.per_class):g} by class"
    elif config.smoothing == 0:
        words = "without smoothing"
    elif config.smoothing_convention == "maxsup":
        words = f"with maximum suppression {config.smoothing:g}"
    else:
        others = ", over the other classes" if config.smoothing_convention == "others" else ""
        words = f"with ε = {config.smoothing:g}{others}"
    parts = [words]
    parts += [f"towards {labels.towards}"] if labels.towards != usual.towards else []
    parts += [f"{labels.schedule} over time"] if labels.schedule != usual.schedule else []
    parts += [f"by {labels.by_sample} of the sample"] if labels.by_sample != usual.by_sample else []
    parts += [f"confidence penalty {labels.confidence_penalty:g}"] if labels.confidence_penalty else []
    return ", ".join(parts)


def model_words(config: ModelConfig) -> str:
    """Name, and what its arguments are: "mlp, widths 256"."""
    arguments = [f"{name} {_value(value)}" for name, value in sorted(config.kwargs.items())]
    return ", ".join([config.name, *arguments])


def _value(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def data_words(config: DataConfig) -> str:
    """Name of the data, how many images, and how many wrong labels."""
    parts = [config.name]
    unit = "sentences" if config.name == "translation" else "images"
    parts += [f"{config.limit:,} training {unit}"] if config.limit else []
    parts += [f"{config.label_noise:.0%} {config.noise} label noise"] if config.label_noise else []
    return ", ".join(parts)


def held_out(noise: Iterable[float], unit: str = "image") -> str:
    """What measures are of: "held-out images", or by which share of its labels they are wrong.

    Args:
        noise: probability of a wrong label, in each of the data sets that a sentence is about.
        unit: what one of them is called.
    """
    rates = sorted({*noise})
    if not any(rates):
        return f"held-out {unit}s"
    span = " to ".join(f"{100 * rate:g}" for rate in dict.fromkeys((rates[0], rates[-1])))
    return f"held-out labels, of which {span} % are wrong by design"


def student_words(config: StudentConfig) -> str:
    """What students of one setting have in common, teacher, temperature and seed apart."""
    loss, cache = config.loss, config.cache
    parts = [model_words(config.model), data_words(config.data), counted(config.schedule.epochs, "epoch")]
    if loss.soft != "kl":
        arguments = "".join(f" {name} {value:g}" for name, value in sorted(loss.kwargs.items()))
        parts.append(f"soft term {loss.soft}{arguments}")
    parts += [f"alpha {loss.alpha:g}"] if loss.alpha != 1 else []
    parts += ["temperature on the teacher only"] if loss.temperature_on == "teacher" else []
    parts += [f"hard term {labels_words(loss)}"] if loss.alpha < 1 and loss.smoothing else []
    if cache is not None:
        views = config.views or cache.views
        parts += [counted(views, "view")] if views > 1 else []
        parts += ["augmented"] if cache.augment != AugmentConfig() and views == 1 else []
        parts += [f"top {cache.top_k} logits"] if cache.top_k else []
        parts += [cache.dtype] if cache.dtype != "float16" else []
    return ", ".join(parts)
