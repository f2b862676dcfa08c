"""Describe a run as a row of TensorBoard's HParams table: what tells it from other runs, then what it achieved.

TensorBoard shows at first only the first five columns of either kind, and it sorts the columns of the first kind by
their names, so their names are numbers, beside which each column has a heading.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorboard.plugins.hparams import summary_v2

from distill.config import CacheConfig, StudentConfig, TeacherConfig
from distill.metrics.measures import BY_NAME
from distill.store import titles
from distill.store.key import key

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    Network = TeacherConfig | StudentConfig
    Cell = float | str | None


@dataclass(frozen=True)
class _Column:
    heading: str
    value: Callable[[Network], Cell]
    """Function of the config; None leaves the cell empty."""
    is_number: bool = True
    """Whether values are numbers: TensorBoard sorts them and draws them to scale, but prints 4 as 4.0000."""


def teachers_smoothing(config: Network) -> float | None:
    """Return the strongest smoothing of the labels that a network's teachers learned from; None if unknown."""
    cache = _cache(config)
    teachers = cache.teachers if cache else ()
    known = [teacher.loss.strongest for teacher in teachers if isinstance(teacher, TeacherConfig)]
    return max(known, default=None) if len(known) == len(teachers) else None  # adopted ones do not say


def _cache(config: Network) -> CacheConfig | None:
    return config.cache if isinstance(config, StudentConfig) else None


def _of_teacher(config: Network) -> Cell:
    # TensorBoard's other views leave out a run that has no value in a column that is shown.
    smoothing = teachers_smoothing(config)
    return ("unknown" if _cache(config) else "no teacher") if smoothing is None else f"{smoothing:g}"


def _views(config: Network) -> Cell:
    cache = _cache(config)
    return str(config.views or cache.views) if cache and isinstance(config, StudentConfig) else None


def _unseen(config: Network) -> Cell:
    return ", ".join(map(str, config.exclude_classes)) or None if isinstance(config, StudentConfig) else None


def _augment(config: Network) -> Cell:
    augment = (_cache(config) or config).augment.model_dump(exclude_defaults=True)
    return ", ".join(f"{name} {value}" for name, value in augment.items() if name != "content") or None


def _temperature(config: Network) -> Cell:
    loss = config.loss
    return loss.temperature if loss.alpha > 0 and loss.equivalent_smoothing is None else None


_COLUMNS = (
    _Column("role", lambda config: config.stage, is_number=False),
    _Column("data", lambda config: titles.data(config.data), is_number=False),
    _Column("network", titles.network, is_number=False),
    _Column("smoothing", lambda config: f"{config.loss.strongest:g}", is_number=False),
    _Column("teacher's smoothing", _of_teacher, is_number=False),
    _Column("T", _temperature),
    _Column("alpha", lambda config: config.loss.alpha if _cache(config) else None),
    _Column("views", _views, is_number=False),
    _Column("unseen class", _unseen, is_number=False),
    _Column("seed", lambda config: str(config.seed), is_number=False),
    _Column("labels", lambda config: titles.smoothing(config.loss) if config.loss.alpha < 1 else None, False),
    _Column("begun with", lambda config: titles.network(config.init) if config.init else None, is_number=False),
    _Column("soft term", lambda config: config.loss.soft if config.loss.alpha > 0 else None, False),
    _Column("teacher", lambda config: titles.teacher(cache) if (cache := _cache(config)) else None, False),
    _Column("augmentation", _augment, is_number=False),
    _Column("epochs", lambda config: config.schedule.epochs),
    _Column("batch size", lambda config: config.schedule.batch_size),
    _Column("optimiser", lambda config: config.optim.name, is_number=False),
    _Column("learning rate", lambda config: config.optim.lr),
    _Column("weight decay", lambda config: config.optim.weight_decay),
    _Column("schedule", lambda config: config.schedule.name, is_number=False),
    _Column("limit of images", lambda config: config.data.limit),
    _Column("held-out share", lambda config: config.data.held_out),
    _Column("precision", lambda config: config.precision, is_number=False),
)
_RESULTS = {
    "test/accuracy": "accuracy",
    "test/nll": "NLL",
    "test/ece": "ECE",
    "test/interclass_variance": "inter-class variance",
    "test/interclass_variance_relative": "relative variance",
    "test/agreement": "agreement",
    "test/confidence": "confidence",
    "targets/equivalent_smoothing": "γ of soft targets",
    "targets/temperature": "T, solved from γ",
    "train/equivalent_smoothing": "γ of answers",
    "train/confidence_ceiling": "ceiling of confidence",
    "train/accuracy": "accuracy, training",
    "train/nll": "NLL, training",
    "held_out/accuracy": "accuracy, held out",
    "held_out/nll": "NLL, held out",
    "held_out/ece": "ECE, held out",
}
"""Name of the scalar → heading of its column."""


@functools.cache
def columns() -> Summary:
    """Describe the columns of the table; every run writes them, since any of the runs may be looked at alone."""
    number = summary_v2.RealInterval(0.0, 1e9)
    told_apart = [
        summary_v2.HParam(_name(place), number if column.is_number else None, display_name=column.heading)
        for place, column in enumerate(_COLUMNS)
    ]
    results = [
        summary_v2.Metric(tag, display_name=heading, description=_explained(tag))
        for tag, heading in _RESULTS.items()
    ]
    return summary_v2.hparams_config_pb(told_apart, results, time_created_secs=0)


def row(config: Network) -> Summary:
    """Describe what tells a run from others.

    TensorBoard sorts rows by their Trial ID and shows about 16 of its characters. So it leaves out data and
    network, which have columns, and ends with the beginning of the key, which all commands take.
    """
    cells = {_name(place): column.value(config) for place, column in enumerate(_COLUMNS)}
    words = titles.of_teacher(config) if isinstance(config, TeacherConfig) else titles.of_student(config)
    return summary_v2.hparams_pb(
        {name: cell for name, cell in cells.items() if cell is not None},
        trial_id="-".join([*words[2:], key(config)[:8]]),
    )


def _name(place: int) -> str:
    return f"{place + 1:02}"


def _explained(tag: str) -> str | None:
    measure = BY_NAME.get(tag.rpartition("/")[2])
    return measure.explained if measure else None
