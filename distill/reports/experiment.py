"""Define what an experiment file provides (labelled runs, claims) and receives (the table of its measures)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from distill.config import ProbeConfig, Scale, StudentConfig, TeacherConfig
from distill.metrics.measures import MEASURES, Measure

Direction = Literal["lower", "higher"]


class Label(NamedTuple):
    """Name one trained network within an experiment."""

    condition: str
    """What differs from other runs, in words: "teacher ε=0.1", "student of ε=0.1, T=4"."""
    seed: int
    unseen: int | None = None
    """The class left out of the transfer set; None if there is none."""


@dataclass(frozen=True)
class Claim:
    """State a claim that a measure decides: its value at `condition` against that at `versus`, seed by seed."""

    id: str
    statement: str
    measure: str
    condition: str
    versus: str
    direction: Direction
    versus_measure: str | None = None
    """The measure of `versus`; None takes `measure`."""


@dataclass(frozen=True)
class Saying:
    """Say in plain words what some claims came to, one sentence for each outcome; {} is where it was so."""

    reproduced: str
    contradicted: str
    undecided: str
    claims: Mapping[str, str]
    """Id of a claim → where it is claimed, such as "at T = 4"; empty for a claim that has no such place."""


@dataclass(frozen=True)
class Published:
    """Hold a number that a paper prints, to be shown beside ours."""

    source: str
    """Place in the paper, and what the number is of: "Müller 2019, Table 2: AlexNet on CIFAR-10, ε=0.1"."""
    value: float | str | None
    """The number in the unit of `measure`, a share as 0 to 1; None if the paper shows only a curve; or a text."""
    half_width: float | None = None
    """The number that the paper prints after ±, if any."""
    condition: str | None = None
    """The condition of this experiment that corresponds to the number, if any."""
    measure: str | None = None
    """The measure of this experiment that corresponds to the number, if any."""
    replication: float | str | None = None
    """The number that a replication of the paper found, in the same unit; None if it has none."""


@dataclass
class Table:
    """Hold all values that an experiment measured, without NaN, and with diverged runs apart."""

    values: dict[Label, dict[str, float]] = field(default_factory=dict)
    curves: dict[Label, dict[str, list[float]]] = field(default_factory=dict)
    """Measures that are a vector, such as the bins of a reliability diagram or the spread per class."""
    diverged: dict[Label, str] = field(default_factory=dict)
    """Runs that are left out of every mean, each with the reason."""
    classes: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = MEASURES
    """How measures are shown, in the order in which reports list them; other measures follow by name."""

    def conditions(self) -> list[str]:
        """List the conditions (the runs' labels without seed) in the experiment's order, diverged runs included."""
        return list(dict.fromkeys(label.condition for label in [*self.values, *self.diverged]))

    def by_seed(self, condition: str, measure: str) -> dict[int, float]:
        """Map each seed to the value of a measure.

        Measures of a class never seen (kind "unseen class") are averaged over the runs that left one class out,
        if the condition has such runs; all other measures come from the runs on all classes. A seed with a diverged
        run is left out whole.
        """
        labels = [label for label in [*self.values, *self.diverged] if label.condition == condition]
        if any(each.name == measure and each.of == "unseen class" for each in self.measures):
            labels = [label for label in labels if label.unseen is not None] or labels
        else:
            labels = [label for label in labels if label.unseen is None]
        values: dict[int, list[float]] = {}
        for label in labels:
            if measure in self.values.get(label, {}):
                values.setdefault(label.seed, []).append(self.values[label][measure])
        # Only a class-for-class comparison is paired: the mean over fewer classes is another quantity.
        classes = len({label.unseen for label in labels})
        return {seed: sum(each) / len(each) for seed, each in values.items() if len(each) == classes}


Network = TeacherConfig | StudentConfig
Runs = dict[Label, Network]
"""Every network of an experiment under its label."""


class Experiment(Protocol):
    """Define the names that `experiments/<name>.py` must have at module level; it may have `OptionalParts` too."""

    DATA: Mapping[Scale, str]
    """The data set of each scale, unless the user names one."""
    CLAIMS: Iterable[Claim]

    runs: Callable[[Scale, str], Runs]
    """Pure function from (scale, data) to the runs: label → config; it takes milliseconds.

    It raises a UserError for data on which the experiment cannot be run.
    """
    draw: Callable[[Table], Mapping[str, object]]
    """Function from a table to figures: name → matplotlib figure."""


class OptionalParts(Protocol):
    """Define the optional names of `experiments/<name>.py`; without a name, the report lacks what it would add."""

    REPRODUCES: str
    """Place in the paper, such as "Figure 2 and Table 3"; an experiment without it asks a question of our own."""
    DATA_OF_PAPER: str
    """The data set of the paper, if it is not the one that `DATA` names at scale "paper"."""
    ANSWER: Sequence[Saying]
    """The answer of the report in plain words, the most important first; without it, claims are listed."""
    PAPER: Sequence[Published]
    """Numbers that papers print, to be shown beside ours."""
    REPLICATION: str
    """Whose the replication's numbers in `PAPER` are, and on what: one sentence below their table."""
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
