"""What an experiment file gives and gets: labelled runs, claims, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from distill.config import ProbeConfig, StudentConfig, TeacherConfig
from distill.metrics.measures import MEASURES, Measure

Scale = Literal["smoke", "quick", "short", "paper"]


class Label(NamedTuple):
    """Place of one trained network in an experiment."""

    condition: str
    """What differs, in words: "teacher ε=0.1", "student of ε=0.1, T=4"."""
    seed: int
    unseen: int | None = None
    """The class left out of the transfer set, if any."""


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
    """What is measured of `versus`, where it is not `measure`."""


@dataclass(frozen=True)
class Published:
    """What a paper prints, to be shown beside ours."""

    source: str
    """Where, and of what: "Müller 2019, Table 2: AlexNet on CIFAR-10, ε=0.1"."""
    value: float | str | None
    """In the unit of `measure`, a share as 0 to 1; None for what the paper shows only as a curve."""
    half_width: float | None = None
    """What stands behind ±, if anything."""
    condition: str | None = None
    """The condition here that corresponds to it, if any."""
    measure: str | None = None
    """The measure here that corresponds to it, if any."""


@dataclass
class Table:
    """All that an experiment measured: label → measure → value; NaN-free, diverged runs apart."""

    values: dict[Label, dict[str, float]] = field(default_factory=dict)
    curves: dict[Label, dict[str, list[float]]] = field(default_factory=dict)
    """Measures that are a vector: bins of a reliability diagram, spread per class."""
    diverged: dict[Label, str] = field(default_factory=dict)
    """Runs that are left out of every mean, and why."""
    classes: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = MEASURES
    """How measures are shown, in the order in which reports list them; others follow by name."""

    def conditions(self) -> list[str]:
        """Conditions in the order in which the experiment lists them, diverged ones included."""
        return list(dict.fromkeys(label.condition for label in [*self.values, *self.diverged]))

    def by_seed(self, condition: str, measure: str, unseen: bool = False) -> dict[int, float]:
        """Seed → value, averaged over left-out classes; a seed with a diverged class is left out whole.

        Args:
            condition: which runs.
            measure: which of their measures.
            unseen: whether to take the runs with a class left out, or the others.
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


class Experiment(Protocol):
    """What `experiments/<name>.py` defines at module level."""

    REPRODUCES: str
    """Place in the paper, such as "Figure 2 and Table 3"; empty for a question of our own."""
    DATA: Mapping[Scale, str]
    """The data set of each scale, unless the user names one."""
    CLAIMS: Iterable[Claim]
    PAPER: Sequence[Published]

    runs: Callable[[Scale, str], dict[Label, TeacherConfig | StudentConfig]]
    """(scale, data) → label → config; pure, milliseconds. Raises a UserError for data it cannot be run on."""
    probes: Callable[[Scale, str], Sequence[ProbeConfig]]
    """(scale, data) → what is measured of each run beside what all runs get."""
    draw: Callable[[Table], Mapping[str, object]]
    """table → name → matplotlib figure.

    A module may define also `derived`: (table) → label → measures, of what no single network is: the best of
    several by held-out accuracy, a rank correlation over all. Its labels must be new; they become rows like others.
    `MEASURES` says how reports show its measures: a tuple of `distill.metrics.measures.Measure`.

    And `CELLS`: functions without arguments that return text, for a section of the report that reads like a
    notebook. Of each the page shows the docstring (first line: title; indented paragraphs: formulas), the source
    and what it returns, computed when the report is written. They are short, take less than a second, and say the
    same each time.
    """
