"""How much smoothing, for what use: accuracy, calibration, or teaching?

A question of our own, of one recipe with eight strengths of label smoothing. Held-out images choose a strength for
each use, by the rules of `distill.metrics.choice` and as `distill sweep-smoothing` does: for accuracy the highest
accuracy; for calibration the lowest ECE; for teaching the largest inter-class logit variance relative to the
squared gap, among the strengths whose accuracy is not credibly below the highest. The test set judges what was
chosen, and students prove or disprove the third answer: do those of the teacher picked for teaching become more
accurate than those of the teacher picked for accuracy?

What the paper says: smoothing raises accuracy and lowers the calibration error, about as much as temperature
scaling of a network without smoothing does (Müller et al. 2019, Tables 1 and 3); a smoothed teacher is more
accurate and teaches worse, because smoothing erases what it knows of how an image resembles other classes (section
4). From this follows that the answers differ, and that less smoothing is to be taken for teaching. Claims are asked
in this direction. The rules to pick by are ours; the paper's own sweep with students, Figure 5, is in
fig5_distillation.

Per seed: teachers of eight strengths with the same initial weights and order of images; students of a tenth of
their images, for as many steps, from each teacher's soft targets alone at T = 1 and 4, and from labels. The
temperatures of scaling are fitted on the held-out images.

How to read it. A strength is picked once, by the means over all seeds, and its teacher then has a value for each
seed: "teacher picked for accuracy". The interval is over seeds and not over other picks. Which strength one network
each would lead to is asked apart ("one seed's pick for accuracy"), for accuracy and calibration only: for teaching
one seed cannot tell which teachers are as accurate. The claims were written without a look at
the students, but after one at these teachers on Fashion-MNIST, which other experiments share. Where two uses pick
one strength, the difference is 0 and nothing is decided.

Cost at `quick` on two CPU cores: 125 networks; the 85 students and the teachers that no figure of the paper has
took 7 minutes while other work shared the cores. At `smoke` three strengths, one seed and no verdict.
Command: `distill reproduce smoothing_sweep`; of your own model and data: `distill sweep-smoothing --help`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distill.config import CacheConfig, LossConfig, ScalingProbe, StudentConfig, TeacherConfig
from distill.metrics.choice import CHOSEN_BY, Choice, Use, choose
from distill.metrics.measures import Measure, Topic
from distill.metrics.verdict import interval
from distill.reports.experiment import Claim, Label, Published, Scale, Table
from experiments import drawing
from experiments.base import DATA_OF_FIGURES, images_of, of_few, setting_of_figures
from experiments.conditions import teachers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPRODUCES = ""
DATA = DATA_OF_FIGURES
MEASURES = (Measure("chosen_smoothing", "chosen ε", topic=Topic("Smoothing chosen", ("accuracy", "ece"))),)
SMOOTHINGS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6)
SHARE = 0.1
"""Of the teacher's training images, the part that students see."""
TEMPERATURES = (1.0, 4.0)
PAPER: list[Published] = []
USES: tuple[Use, ...] = ("accuracy", "calibration", "teaching")


def _teacher(smoothing: float) -> str:
    return f"teacher ε={smoothing:g}"


def _student(smoothing: float, temperature: float) -> str:
    return f"student of ε={smoothing:g}, T={temperature:g}"


def _picked(use: Use) -> str:
    return f"teacher picked for {use}"


def _student_of_picked(use: Use, temperature: float) -> str:
    return f"student of the teacher picked for {use}, T={temperature:g}"


def _one_seed(use: Use) -> str:
    return f"one seed's pick for {use}"


HARD = _teacher(0)
LABELS = "student of labels"
UNSCALED = "no temperature"
"""Stands for T = 1, with which a fitted temperature is compared."""

CLAIMS = [
    Claim(
        "smoothing-accuracy",
        "The strength that is picked for accuracy makes a network more accurate than no smoothing",
        "accuracy",
        _picked("accuracy"),
        HARD,
        "higher",
    ),
    Claim(
        "smoothing-calibration",
        "ε=0.05: smoothing lowers the ECE",
        "ece",
        _teacher(0.05),
        HARD,
        "lower",
    ),
    Claim(
        "scaling-calibration",
        "Temperature scaling without smoothing leaves a lower ECE than the strength picked for calibration",
        "temperature_ece",
        HARD,
        _picked("calibration"),
        "lower",
        versus_measure="ece",
    ),
    Claim(
        "overconfident",
        "ε=0: the fitted temperature is above 1, the network is too sure",
        "temperature_fitted",
        HARD,
        UNSCALED,
        "higher",
    ),
    Claim(
        "over-softened",
        "ε=0.1: the fitted temperature is below 1, the network is not sure enough",
        "temperature_fitted",
        _teacher(0.1),
        UNSCALED,
        "lower",
    ),
    Claim(
        "calibration-is-not-accuracy",
        "Seed by seed, the best calibrated network has less smoothing than the most accurate one",
        "chosen_smoothing",
        _one_seed("calibration"),
        _one_seed("accuracy"),
        "lower",
    ),
    *(
        Claim(
            f"students-of-teaching-T{temperature:g}",
            f"T={temperature:g}: the teacher picked for teaching has more accurate students than that for accuracy",
            "accuracy",
            _student_of_picked("teaching", temperature),
            _student_of_picked("accuracy", temperature),
            "higher",
        )
        for temperature in TEMPERATURES
    ),
    *(
        Claim(
            f"students-of-hard-T{temperature:g}",
            f"T={temperature:g}: the teacher without smoothing has more accurate students than that for accuracy",
            "accuracy",
            _student(0, temperature),
            _student_of_picked("accuracy", temperature),
            "higher",
        )
        for temperature in TEMPERATURES
    ),
]


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    smoothings = SMOOTHINGS if scale != "smoke" else SMOOTHINGS[:3]
    seeds = range(chosen.seeds if scale != "smoke" else 1)
    found: dict[Label, TeacherConfig | StudentConfig] = teachers(chosen.teacher, seeds, smoothings)
    few = of_few(chosen.student, images_of(data, scale), SHARE)
    for seed in seeds:
        found[Label(LABELS, seed)] = few.replace(seed=seed, cache=None, loss=LossConfig(alpha=0))
        for smoothing in smoothings:
            teacher = chosen.teacher.replace(seed=seed).with_loss(smoothing=smoothing)
            cache = CacheConfig(teacher=teacher, transfer_set=few.data)
            for temperature in TEMPERATURES:
                found[Label(_student(smoothing, temperature), seed)] = few.replace(
                    seed=seed, cache=cache, loss=LossConfig(temperature=temperature)
                )
    return found


def probes(scale: Scale, data: str) -> tuple[ScalingProbe]:
    """What temperature, vector and Platt scaling make of each network."""
    return (ScalingProbe(),)


_BySmoothing = dict[float, dict[str, dict[int, float]]]


def _held_out(table: Table) -> _BySmoothing:
    """What the choice rests on: smoothing → measure → seed → value, of held-out images."""
    found: _BySmoothing = {}
    for smoothing in SMOOTHINGS:
        values = {name: table.by_seed(_teacher(smoothing), f"held_out_{name}") for name in CHOSEN_BY.values()}
        if all(values.values()):
            found[smoothing] = values
    return found


def choices(table: Table) -> dict[str, Choice]:
    """What each use takes; empty without a teacher."""
    measured = _held_out(table)
    return choose(measured) if measured else {}


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """What was picked for each use, and what became of it on the test set.

    Returns:
        For each use the teacher that was picked, with `chosen_smoothing` and measures of the test set; its
        students; and `chosen_smoothing` of what one seed alone would pick. And T = 1 as `temperature_fitted`.
    """
    found: dict[Label, dict[str, float]] = {}
    picked = choices(table)
    for use in USES if picked else ():
        smoothing = picked[use].smoothing
        for seed, values in _of(table, _teacher(smoothing), ("accuracy", "nll", "ece")).items():
            found[Label(_picked(use), seed)] = {"chosen_smoothing": smoothing, **values}
        for temperature in TEMPERATURES:
            for seed, values in _of(table, _student(smoothing, temperature), ("accuracy", "nll")).items():
                found[Label(_student_of_picked(use, temperature), seed)] = values
    for seed, picks in _by_seed(table).items():
        for use in ("accuracy", "calibration"):
            found[Label(_one_seed(use), seed)] = {"chosen_smoothing": picks[use].smoothing}
        found[Label(UNSCALED, seed)] = {"temperature_fitted": 1.0}
    return found


def _of(table: Table, condition: str, measures: tuple[str, ...]) -> dict[int, dict[str, float]]:
    """Seed → these measures of a condition, as far as it has them."""
    found: dict[int, dict[str, float]] = {}
    for name in measures:
        for seed, value in table.by_seed(condition, name).items():
            found.setdefault(seed, {})[name] = value
    return found


def _by_seed(table: Table) -> dict[int, dict[str, Choice]]:
    """What each seed alone would pick, of the seeds that have a network of every strength."""
    measured = _held_out(table)
    seeds = [{*values} for measures in measured.values() for values in measures.values()]
    return {
        seed: choose(
            {
                smoothing: {name: {seed: values[seed]} for name, values in measures.items()}
                for smoothing, measures in measured.items()
            }
        )
        for seed in sorted(set.intersection(*seeds) if seeds else ())
    }


_MARKS: dict[Use, tuple[str, str]] = {
    "accuracy": ("D", drawing.SMOOTHED[0]),
    "calibration": ("s", drawing.SMOOTHED[1]),
    "teaching": ("^", drawing.SMOOTHED[2]),
}
_FITTED = "#444444"


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {"uses": _uses(table), "students": _students(table), "scaling": _scaling(table)}


def _uses(table: Table) -> Figure:
    figure = drawing.new_figure(
        7.6,
        "Three uses, three answers: accuracy, ECE and relative inter-class variance of the test set over the "
        "smoothing of the network. Marked is what held-out images pick for each use; for teaching, of the "
        "strengths that are not credibly less accurate than the best. Bars: 95 % intervals over seeds.",
    )
    accuracy, ece, variance = figure.subplots(3, 1, sharex=True)
    _line(accuracy, table, _teacher, "accuracy")
    accuracy.set_ylabel("accuracy, %")
    _line(ece, table, _teacher, "ece")
    ece.set_ylabel("ECE, %")
    scaled = table.by_seed(HARD, "temperature_ece")
    if scaled:
        height = 100 * interval(scaled.values()).mean
        ece.axhline(height, color=_FITTED, linestyle="--", linewidth=1.4, label="ε=0, after temperature scaling")
    _line(variance, table, _teacher, "interclass_variance_relative")
    variance.set_ylabel("inter-class variance\nover squared gap, %")
    drawing.logarithmic(ece, (1, 2, 5))
    drawing.logarithmic(variance, (1, 2, 3, 5, 7))
    for axes, use in zip((accuracy, ece, variance), USES, strict=True):
        measure = {"accuracy": "accuracy", "calibration": "ece", "teaching": "interclass_variance_relative"}[use]
        _mark(axes, table, _teacher, measure, (use,))
    _finish(figure)
    return figure


def _students(table: Table) -> Figure:
    figure = drawing.new_figure(
        6.4,
        "Which teacher has the most accurate students? Test accuracy of students of a tenth of the images over the "
        "smoothing of their teacher, at T = 1 and T = 4. Marked are the teachers that held-out images pick for "
        "each use. Bars and band: 95 % intervals over seeds.",
    )
    panels = figure.subplots(2, 1, sharex=True)
    for axes, temperature in zip(panels, TEMPERATURES, strict=True):

        def condition(smoothing: float, temperature: float = temperature) -> str:
            return _student(smoothing, temperature)

        drawing.heading(axes, f"students at T = {temperature:g}")
        _line(axes, table, condition, "accuracy")
        drawing.horizontal(axes, table, [LABELS], "accuracy", 100, "--")
        _mark(axes, table, condition, "accuracy", USES)
        axes.set_ylabel("accuracy of students, %")
    _finish(figure, legend=False)
    drawing.legend_below(figure)
    return figure


def _scaling(table: Table) -> Figure:
    figure = drawing.new_figure(
        5.8,
        "Smoothing and temperature scaling together: ECE of the test set as trained and after scaling by the "
        "temperature that held-out images fit, and that temperature. Below 1, smoothing has softened too much. "
        "Bars: 95 % intervals over seeds.",
    )
    ece, fitted = figure.subplots(2, 1, sharex=True)
    _line(ece, table, _teacher, "ece", label="as trained")
    _line(ece, table, _teacher, "temperature_ece", color=_FITTED, marker="s", label="after temperature scaling")
    drawing.logarithmic(ece, (1, 2, 5))
    ece.set_ylabel("ECE, %")
    _line(fitted, table, _teacher, "temperature_fitted", scale=1, color=_FITTED, marker="s")
    fitted.axhline(1, color="#999999", linewidth=1)
    drawing.logarithmic(fitted, (1, 2, 5))
    fitted.set_ylabel("fitted temperature")
    _finish(figure)
    return figure


def _line(
    axes: Axes,
    table: Table,
    condition: Any,
    measure: str,
    *,
    scale: float = 100,
    color: str = drawing.HARD,
    marker: str = "o",
    label: str | None = None,
) -> None:
    """A measure over the smoothing, with intervals."""
    found = _means(table, condition, measure)
    if not found:
        return
    means = [scale * each.mean for each in found.values()]
    halves = [scale * drawing.half_width(each) for each in found.values()]
    style: dict[str, Any] = {"markersize": 5, "linewidth": 1.6, "elinewidth": 1.4, "capsize": 2.5}
    axes.errorbar(list(found), means, halves, color=color, marker=marker, label=label, **style)


def _means(table: Table, condition: Any, measure: str) -> dict[float, Any]:
    values = {smoothing: table.by_seed(condition(smoothing), measure) for smoothing in SMOOTHINGS}
    return {smoothing: interval(by_seed.values()) for smoothing, by_seed in values.items() if by_seed}


def _mark(axes: Axes, table: Table, condition: Any, measure: str, uses: tuple[Use, ...]) -> None:
    """The picks for these uses, on the line of a measure; those of one strength inside each other."""
    means, picked = _means(table, condition, measure), choices(table)
    sizes: dict[float, float] = {}
    for use in uses:
        smoothing = picked[use].smoothing if picked else None
        if smoothing is None or smoothing not in means:
            continue
        marker, color = _MARKS[use]
        size = sizes[smoothing] = sizes.get(smoothing, 14.0) - 4
        style: dict[str, Any] = {"linestyle": "none", "markersize": size, "zorder": 5, "markeredgecolor": "white"}
        name = f"picked for {use}: ε={smoothing:g}"
        axes.plot([smoothing], [100 * means[smoothing].mean], marker=marker, color=color, label=name, **style)


def _finish(figure: Figure, legend: bool = True) -> None:
    for axes in figure.axes:
        drawing.open_frame(axes)
        if legend and axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    figure.axes[-1].set_xlabel("label smoothing ε of the teacher" if not legend else "label smoothing ε")
