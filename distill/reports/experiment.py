"""Define what an experiment file provides (labelled runs, claims) and receives (the table of its measures)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from distill.config import ProbeConfig, Scale, StudentConfig, TeacherConfig
from distill.metrics.measures import MEASURES, Measure


class Label(NamedTuple):
    """The place of one trained network in an experiment."""

    condition: str
    """What differs from other runs, in words: "teacher ε=0.1", "student of ε=0.1, T=4"."""
    seed: int
    unseen: int | None = None
    """The class left out of the transfer set; None if there is none."""


@dataclass(frozen=True)
class Claim:
    """A statement that a measure decides: `measure` of `condition` against that of `versus`, seed by seed."""

    id: str
    statement: str
    measure: str
    condition: str
    versus: str
    direction: Literal["lower", "higher"]
    versus_measure: str | None = None
    """The measure of `versus`; None takes `measure`."""


@dataclass(frozen=True)
class Published:
    """A number that a paper prints, to be shown beside ours."""

    source: str
    """Place in the paper, and what the number is of: "Müller 2019, Table 2: AlexNet on CIFAR-10, ε=0.1"."""
    value: float | str | None
    """The number in the unit of `measure`, a share as 0 to 1; None if the paper shows only a curve."""
    half_width: float | None = None
    """The number that the paper prints after ±, if any."""
    condition: str | None = None
    """The condition of this experiment that corresponds to the number, if any."""
    measure: str | None = None
    """The measure of this experiment that corresponds to the number, if any."""


@dataclass
class Table:
    """All values that an experiment measured, without NaN, and with diverged runs apart."""

    values: dict[Label, dict[str, float]] = field(default_factory=dict)
    curves: dict[Label, dict[str, list[float]]] = field(default_factory=dict)
    """Measures that are a vector, such as the bins of a reliability diagram or the spread per class."""
    diverged: dict[Label, str] = field(default_factory=dict)
    """Runs that are left out of every mean, each with the reason."""
    classes: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = MEASURES
    """How measures are shown, in the order in which reports list them; other measures follow by name."""

    def conditions(self) -> list[str]:
        """List the conditions in the order of the experiment, diverged ones included."""
        return list(dict.fromkeys(label.condition for label in [*self.values, *self.diverged]))

    def by_seed(self, condition: str, measure: str, unseen: bool = False) -> dict[int, float]:
        """Map each seed to the value of a measure, averaged over left-out classes.

        A seed with a diverged class is left out whole.

        Args:
            condition: condition of the runs.
            measure: measure of the runs.
            unseen: whether to take the runs with a class left out, or the other runs.
        """

        def wanted(label: Label) -> bool:
            return label.condition == condition and unseen == (label.unseen is not None)

        found: dict[int, list[float]] = {}
        for label, measures in self.values.items():
            if wanted(label) and measure in measures:
                found.setdefault(label.seed, []).append(measures[measure])
        # Only a class-for-class comparison is paired: the mean over fewer classes is another quantity.
        classes = {label.unseen for label in [*self.values, *self.diverged] if wanted(label)}
        return {seed: sum(values) / len(values) for seed, values in found.items() if len(values) == len(classes)}


Network = TeacherConfig | StudentConfig
Runs = dict[Label, Network]
"""Every network of an experiment under its label."""


class Experiment(Protocol):
    """The names that `experiments/<name>.py` must define at module level; it may define `OptionalParts` too."""

    REPRODUCES: str
    """Place in the paper, such as "Figure 2 and Table 3"; empty for a question of our own."""
    DATA: Mapping[Scale, str]
    """The data set of each scale, unless the user names one."""
    CLAIMS: Iterable[Claim]
    PAPER: Sequence[Published]

    runs: Callable[[Scale, str], Runs]
    """Pure function from (scale, data) to the runs: label → config; it takes milliseconds.

    It raises a UserError for data on which the experiment cannot be run.
    """
    draw: Callable[[Table], Mapping[str, object]]
    """Function from a table to figures: name → matplotlib figure."""


class OptionalParts(Protocol):
    """The names that `experiments/<name>.py` may define too; without one there is nothing of its kind."""

    probes: Callable[[Scale, str], Sequence[ProbeConfig]]
    """Function from (scale, data) to the probes: what is measured of each run beside what all runs get."""
    MEASURES: Sequence[Measure]
    """How reports show the measures of the experiment."""
    derived: Callable[[Table], Mapping[Label, dict[str, float]]]
    """Function from a table to label → measures, for what no single network has: the best of several by held-out
    accuracy, a rank correlation over all. Its labels must be new; they become rows like others."""
    CELLS: Sequence[Callable[[], str]]
    """Functions without arguments that return text, for a section of the report that reads like a notebook.

    For each cell the page shows the docstring (first line: title; indented paragraphs: formulas), the source, and
    what it returns when the report is written. Cells are short, take less than a second, and say the same each
    time.
    """


def no_probes(scale: Scale, data: str) -> tuple[()]:
    """Measure nothing beside what all runs get: `probes` of an experiment that has none."""
    return ()
