"""Should I smooth my teacher? What a smoothed teacher costs its students, over images, temperature and smoothing.

Müller, Kornblith & Hinton (2019, section 4) find that smoothed teachers teach worse; Shen et al. (2021) that they
need not; Chandrasegaran et al. (2022) that it is the temperature: with a smoothed teacher, take T = 1. Here all
three stand on one map: the test accuracy of the hard teacher's student minus that of the smoothed teacher's, over
the size of the transfer set, the temperature and the smoothing. Where that is positive, smoothing hurts.

What is varied, and what is not. The teacher has 10,000 images of Fashion-MNIST, at every point the same; its
students see 1, 3, 10, 30 or 100 % of them, smaller parts lying in larger ones, for as many steps whatever the
part. Soft targets alone, the temperature on both sides, times T² (the loss of Shen and of Chandrasegaran;
Müller's on CIFAR divides the teacher's logits only). The two students of a cell share seed, initial weights,
images and their order, and the cell is decided by the paired differences of five seeds. All seeds share one draw
of the images, at 1 % the same 100: intervals are over initial weights, order and teachers, and say nothing of
another 100 images. Two smaller maps ask the same of 16 stored views per image (15 where there are 15 epochs),
read in turn, with teachers trained on such views for twice the epochs and students of labels that see a new view
in every epoch (`patience` could not tell 16 from that over 32 epochs; 1 % runs for 1,170), and of a narrow
student (16 hidden units). Whether these differ from the main map is a difference of differences, which has cells
of its own: that one cell is decided and another is not says nothing.

The practical answer compares the best that a user can do with each teacher: for each seed the temperature, of the
four, is chosen on held-out images. These are 10,000 even where the transfer set has 100: whoever has fewer chooses
less well.

What to bear in mind. The points were chosen after a look at three seeds of 100, 1,000 and 10,000 images at T = 1
and 4, with test accuracy in view. Those three are among the five, so the claims on 1 % at T = 4 are confirmed by
two new seeds only. Of the cells without any effect about one in twenty is decided all the same; and cells are not
independent, since per seed one teacher of each smoothing stands behind all sizes and temperatures, so that chance
shows in neighbours alike. The claims are therefore few: Müller's and Chandrasegaran's directions (one comparison
is listed under both), and expectations of our own on few images, the best temperature, capacity and augmentation,
for which "reproduced" means that the expectation came true.

What the cost at 1 % is made of. It is not that these students are short of training: at T = 2 and above all fit
their targets long before the end. Students of smoothed teachers lose held-out accuracy in the later of 1,170
epochs: at T = 4 the cost on held-out images grows from 1.7 points after 59 epochs to 2.6 at the end for ε = 0.1,
and from 0.1 to 1.8 for ε = 0.6; who stops early pays less. And most of it is a matter of scale: at high T a
student matches logits, a smoothed teacher's are four times smaller, and the student leaves its random start less
far behind. With logits standardised on both sides, `restore` finds the cost of ε = 0.1 far smaller. What is left
then is at most what smoothing erased.

How to ask it of your own data: `distill reproduce when_smoothing_hurts --data imagefolder:PATH`, with a folder or
tar that has `train/<class>/`, `test/<class>/` and at least 12,500 training images at `quick`, 50,000 above it; a
fifth is held out. Sizes are then parts of 10,000 (40,000) images, the nets are those that CIFAR-10 gets, and
there are three seeds at `quick`, so more cells stay undecided. What the map cannot know: other networks, longer
or shorter training, images that the teacher was not trained on, temperatures between those tried, a student that
mixes labels into its targets, and what smoothing does for the teacher itself, its accuracy and calibration.

Cost at `quick` on two CPU cores: 710 networks, 29 minutes while other work shared the cores, without the 30
teachers, which are those of Figures 2, 5 and 6. At `smoke` only the points that claims speak of are run, with
one seed. Command: `distill reproduce when_smoothing_hurts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distill.config import AugmentConfig, CacheConfig, LossConfig, ModelConfig, StudentConfig, TeacherConfig
from distill.metrics.measures import Measure
from distill.reports.experiment import Claim, Label, Published, Scale, Table
from experiments import drawing, smoothing_map
from experiments.base import (
    DATA_OF_FIGURES,
    SNAPSHOTS,
    Setting,
    images_of,
    of_few,
    on_views,
    setting_of_figures,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill.metrics.verdict import Judgement

    _Cells = dict[smoothing_map.Place, Judgement]

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the teacher's training images, the part that students see."""
TEMPERATURES = (1.0, 2.0, 4.0, 16.0)
SMOOTHINGS = (0.0, 0.1, 0.3, 0.6)
VIEWS = 16
"""Stored views per image of augmented students, read in turn: `patience` cannot tell them from one per epoch."""
SMALL = ModelConfig(name="mlp", kwargs={"widths": [16]})

REPRODUCES = ""
DATA = DATA_OF_FIGURES
MEASURES = (
    *(Measure(f"cost_T{at}", f"cost at T={at}", "points", 2) for at in (1, 2, 4, 16)),
    Measure("gain_over_labels", "gain over labels", "points", 2),
    Measure("chosen_temperature", "chosen temperature", decimals=2),
)


@dataclass(frozen=True)
class Panel:
    """One map: which points, and what is special about its networks."""

    suffix: str
    shares: tuple[float, ...]
    temperatures: tuple[float, ...]
    smoothings: tuple[float, ...]


MAIN = Panel("", SHARES, TEMPERATURES, SMOOTHINGS)
AUGMENTED = Panel(", augmented", (0.01, 0.1, 1.0), (1.0, 4.0, 16.0), (0.0, 0.1))
NARROW = Panel(", narrow", (0.01, 0.1, 1.0), (1.0, 4.0, 16.0), (0.0, 0.1, 0.6))
PANELS = (MAIN, AUGMENTED, NARROW)
_SMOKE = (
    Panel(MAIN.suffix, (0.01, 1.0), (1.0, 4.0, 16.0), (0.0, 0.1)),
    Panel(MAIN.suffix, (0.03, 0.1, 0.3), (4.0,), (0.0, 0.1)),
    Panel(AUGMENTED.suffix, (0.1,), (4.0,), (0.0, 0.1)),
    Panel(NARROW.suffix, (0.1,), (4.0,), (0.0, 0.1)),
)
"""The points that claims speak of."""


def _teacher(smoothing: float, panel: Panel) -> str:
    # Narrow students have the same teachers as wide ones.
    return f"teacher ε={smoothing:g}" + (panel.suffix if panel.suffix == AUGMENTED.suffix else "")


def _distilled(smoothing: float, temperature: float, share: float, panel: Panel = MAIN) -> str:
    return f"student of ε={smoothing:g}, T={temperature:g}, {share:.0%}{panel.suffix}"


def _of_labels(share: float, panel: Panel = MAIN) -> str:
    return f"student of labels, {share:.0%}{panel.suffix}"


def _best(smoothing: float, share: float) -> str:
    return f"student of ε={smoothing:g}, best T, {share:.0%}"


def _cost(smoothing: float, share: float, panel: Panel = MAIN) -> str:
    return f"cost of ε={smoothing:g}, {share:.0%}{panel.suffix}"


def _cost_at(temperature: float) -> str:
    """The measure of a cost: accuracy of the hard teacher's student minus that of the smoothed teacher's."""
    return f"cost_T{temperature:g}"


_R18 = "Chandrasegaran 2022, official tables: ImageNet top-1 of ResNet-18, teacher ResNet-50"
_SHEN = "Shen 2021, Table 2: ImageNet top-1 of ResNet-18, T=1, teacher ResNet-50"
_MUELLER = "Müller 2019, section 4: MNIST test error of a student"
PAPER = [
    Published(f"{_MUELLER} of the teacher of ε=0 (with dropout)", 0.0074),
    Published(f"{_MUELLER} of the teacher of ε=0.1", 0.0091),
    Published(f"{_SHEN} of ε=0", 0.71425, 0.00038),
    Published(f"{_SHEN} of ε=0.1", 0.71816, 0.00017),
    *(
        Published(f"{_R18} of ε={smoothing:g}, T={temperature}", value)
        for temperature, *values in (
            (1, 0.71488, 0.71666),
            (2, 0.71360, 0.68860),
            (3, 0.69674, 0.67752),
            (64, 0.66194, 0.64362),
        )
        for smoothing, value in zip((0, 0.1), values, strict=True)
    ),
]

_USUAL = drawing.USUAL
CLAIMS = [
    *(
        Claim(
            f"mueller-{share:.0%}-T{temperature:g}",
            f"{share:.0%} of the images, T={temperature:g}: a student of the smoothed teacher is less accurate",
            "accuracy",
            _distilled(_USUAL, temperature, share),
            _distilled(0, temperature, share),
            "lower",
        )
        for share in (1.0, 0.01)
        for temperature in (1, 4, 16)
    ),
    Claim(
        "few-images",
        "T=4: smoothing costs more with 1% of the images than with all",
        _cost_at(4),
        _cost(_USUAL, 0.01),
        _cost(_USUAL, 1.0),
        "higher",
    ),
    Claim(
        "chandrasegaran-T1",
        "T=1, all images: a student of the smoothed teacher is more accurate",
        "accuracy",
        _distilled(_USUAL, 1, 1.0),
        _distilled(0, 1, 1.0),
        "higher",
    ),
    Claim(
        "chandrasegaran-T16",
        "all images: smoothing costs more at T=16 than at T=1",
        _cost_at(16),
        _cost(_USUAL, 1.0),
        _cost(_USUAL, 1.0),
        "higher",
        versus_measure=_cost_at(1),
    ),
    *(
        Claim(
            f"best-T-{share:.0%}",
            f"{share:.0%} of the images, best T of each: a student of the smoothed teacher is more accurate",
            "accuracy",
            _best(_USUAL, share),
            _best(0, share),
            "higher",
        )
        for share in SHARES
    ),
    Claim(
        "capacity",
        "10% of the images, T=4: smoothing costs a narrow student more than a wide one",
        _cost_at(4),
        _cost(_USUAL, 0.1, NARROW),
        _cost(_USUAL, 0.1),
        "higher",
    ),
    Claim(
        "augmentation",
        "10% of the images, T=4: smoothing costs an augmented student more than one of images as they are",
        _cost_at(4),
        _cost(_USUAL, 0.1, AUGMENTED),
        _cost(_USUAL, 0.1),
        "higher",
    ),
]


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    panels = _SMOKE if scale == "smoke" else PANELS
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(1 if scale == "smoke" else chosen.seeds):
        for panel in panels:
            found |= {Label(condition, seed): run for condition, run in _panel(panel, chosen, scale, data, seed)}
    return found


def _panel(
    panel: Panel, chosen: Setting, scale: Scale, data: str, seed: int
) -> Iterator[tuple[str, TeacherConfig | StudentConfig]]:
    """The networks of one map and one seed, each with its condition."""
    count = images_of(data, scale)
    images = chosen.teacher.data.replace(limit=count)
    teacher = chosen.teacher.replace(seed=seed, data=images, augment=AugmentConfig())
    if panel.suffix == AUGMENTED.suffix:
        # Those of Figure 6, snapshots and all, so that they are trained once.
        teacher = on_views(teacher, data).replace(snapshots=SNAPSHOTS)
    teachers = {smoothing: teacher.with_loss(smoothing=smoothing) for smoothing in panel.smoothings}
    for smoothing, each in teachers.items():
        yield _teacher(smoothing, panel), each
    narrow_or_wide = chosen.student.replace(model=SMALL) if panel.suffix == NARROW.suffix else chosen.student
    for share in panel.shares:
        student = of_few(narrow_or_wide, count, share).replace(seed=seed)
        plain = CacheConfig(teacher=teachers[0.0], transfer_set=student.data)
        yield _of_labels(share, panel), student.replace(augment=teacher.augment)
        for smoothing, temperature in product(panel.smoothings, panel.temperatures):
            cache = plain.replace(teacher=teachers[smoothing])
            if panel.suffix == AUGMENTED.suffix:
                views = min(VIEWS, student.schedule.epochs)
                cache = cache.replace(augment=teacher.augment, views=views)
            loss = LossConfig(alpha=1, temperature=temperature)
            yield _distilled(smoothing, temperature, share, panel), student.replace(cache=cache, loss=loss)


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """What no single network is: the cost of smoothing at each point, and each teacher's student at its best T.

    Returns:
        "cost of ε=0.1, 10%": `cost_T1` and so on, for each temperature at which the seed has both students, as a
        share; "student of ε=0.1, best T, 10%": `chosen_temperature`, the lowest of equally good ones, and of the
        student that has it `accuracy`, `held_out_accuracy` and `gain_over_labels`.
    """
    found: dict[Label, dict[str, float]] = {}
    for panel in PANELS:
        for smoothing, share, temperature in product(panel.smoothings[1:], panel.shares, panel.temperatures):
            hard = table.by_seed(_distilled(0, temperature, share, panel), "accuracy")
            smoothed = table.by_seed(_distilled(smoothing, temperature, share, panel), "accuracy")
            for seed in sorted(hard.keys() & smoothed.keys()):
                at = found.setdefault(Label(_cost(smoothing, share, panel), seed), {})
                at[_cost_at(temperature)] = hard[seed] - smoothed[seed]
    for smoothing, share in product(SMOOTHINGS, SHARES):
        found |= _chosen(table, smoothing, share)
    return found


def _chosen(table: Table, smoothing: float, share: float) -> dict[Label, dict[str, float]]:
    """Of each seed, the student whose temperature has the highest accuracy on held-out images.

    A diverged student is not chosen. A seed that lacks a temperature which others have is left out: its best would
    be that of fewer.
    """
    known = {*table.values, *table.diverged}
    students = {temperature: _distilled(smoothing, temperature, share) for temperature in TEMPERATURES}
    tried = {label.condition for label in known} & set(students.values())
    found = {}
    for seed in sorted({label.seed for label in known if label.condition in tried}):
        if not {Label(condition, seed) for condition in tried} <= known:
            continue
        options = {
            temperature: measures
            for temperature, condition in students.items()
            if (measures := table.values.get(Label(condition, seed))) and "held_out_accuracy" in measures
        }
        if not options:
            continue
        best = max(options, key=lambda temperature: (options[temperature]["held_out_accuracy"], -temperature))
        values = {name: options[best][name] for name in ("accuracy", "held_out_accuracy")}
        labels = table.values.get(Label(_of_labels(share), seed))
        if labels:
            values["gain_over_labels"] = values["accuracy"] - labels["accuracy"]
        found[Label(_best(smoothing, share), seed)] = values | {"chosen_temperature": best}
    return found


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report, the map first."""
    return {
        "map": _map(table),
        "best_temperature": _best_temperature(table),
        "augmentation": _beside(
            table,
            AUGMENTED,
            ("images as they are", "augmented"),
            "What smoothing the teacher costs students of images as they are (left) and of up to 16 stored views "
            "per image, read in turn, whose teachers were trained on such views for twice the epochs (middle).",
        ),
        "capacity": _beside(
            table,
            NARROW,
            ("wide student", "narrow student"),
            "What smoothing the teacher costs a wide student (left) and a narrow one of the same teachers "
            "(middle).",
        ),
    }


_HOW_TO_READ = (
    "Orange: smoothing hurts; purple: it helps; hatched: the seeds cannot tell. With so many cells, about one in "
    "twenty of those without any effect is decided by chance."
)
_HELPS, _HURTS = "smoothing helps", "smoothing hurts"


def _map(table: Table) -> Figure:
    """The cost of smoothing over sizes (columns) and temperatures (rows), one map per strength."""
    figure = drawing.new_figure(
        6.9,
        "Should I smooth my teacher? Each cell is the test accuracy of the hard teacher's student minus that of "
        f"the smoothed teacher's student, in points, mean over seeds. {_HOW_TO_READ}",
    )
    maps = [
        smoothing_map.Map(f"teacher smoothed by ε = {value:g}", _cells(table, value)) for value in SMOOTHINGS[1:]
    ]
    scale = smoothing_map.scale_of(maps)
    panels = list(figure.subplots(len(maps), 1))
    for axes, each in zip(panels, maps, strict=True):
        smoothing_map.draw_map(axes, each, scale, _temperatures(MAIN), _shares(MAIN))
        axes.set_ylabel("temperature")
    panels[-1].set_xlabel(_SHARE_SEEN)
    smoothing_map.key_below(figure, panels, scale, _HELPS, _HURTS)
    return figure


_SHARE_SEEN = "part of the teacher's images that students see"


def _cells(table: Table, smoothing: float, panel: Panel = MAIN, points: Panel | None = None) -> _Cells:
    """The cost of this smoothing at the places of `points`, those of the panel unless others are given."""
    at = points or panel
    return _defined(
        at,
        lambda share, temperature: smoothing_map.compare(
            table,
            _distilled(0, temperature, share, panel),
            _distilled(smoothing, temperature, share, panel),
        ),
    )


def _differences(table: Table, smoothing: float, panel: Panel) -> _Cells:
    """How much more smoothing costs on this panel than on the main one."""
    return _defined(
        panel,
        lambda share, temperature: smoothing_map.compare(
            table, _cost(smoothing, share, panel), _cost(smoothing, share), _cost_at(temperature)
        ),
    )


def _defined(points: Panel, judged: Callable[[float, float], Judgement | None]) -> _Cells:
    """The verdicts on (share, temperature) at their places."""
    places = product(enumerate(points.temperatures), enumerate(points.shares))
    found = {(row, column): judged(share, temperature) for (row, temperature), (column, share) in places}
    return {place: cell for place, cell in found.items() if cell is not None}


def _temperatures(panel: Panel) -> list[str]:
    return [f"{value:g}" for value in panel.temperatures]


def _shares(panel: Panel) -> list[str]:
    return [f"{value:.0%}".replace("%", " %") for value in panel.shares]


def _beside(table: Table, panel: Panel, names: tuple[str, str], caption: str) -> Figure:
    """Maps of the main panel and of another one at the same points, and of the difference between the two."""
    strengths = panel.smoothings[1:]
    figure = drawing.new_figure(
        1.35 + 1.65 * len(strengths),
        f"{caption} In points of test accuracy, mean over seeds. {_HOW_TO_READ} Right: the middle minus the left "
        "one, seed by seed; orange where smoothing costs more in the middle.",
    )
    rows = [
        [
            smoothing_map.Map(names[0], _cells(table, value, MAIN, panel)),
            smoothing_map.Map(names[1], _cells(table, value, panel)),
            smoothing_map.Map("difference", _differences(table, value, panel)),
        ]
        for value in strengths
    ]
    scale = smoothing_map.scale_of(each for row in rows for each in row)
    grid = figure.subplots(len(rows), 3, squeeze=False, sharex=True, sharey=True)
    for value, line, row in zip(strengths, grid, rows, strict=True):
        for axes, each in zip(line, row, strict=True):
            smoothing_map.draw_map(axes, each, scale, _temperatures(panel), _shares(panel))
        line[0].set_ylabel(f"ε = {value:g}\ntemperature")
    grid[-1, 1].set_xlabel(_SHARE_SEEN)
    smoothing_map.key_below(figure, list(grid.flat), scale, _HELPS, _HURTS)
    return figure


def _best_temperature(table: Table) -> Figure:
    """What each teacher's students gain over students of labels at their best temperature, and which that is."""
    figure = drawing.new_figure(
        7.2,
        "For each teacher, size and seed the temperature that held-out images choose. Above: what its student "
        "gains in test accuracy over a student of labels that sees the same images, mean over seeds with 95 % "
        "intervals; under each size that student's accuracy. In the middle: the hard teacher's student minus the "
        f"smoothed teacher's, in points. {_HOW_TO_READ} Below: the temperatures chosen, lowest to highest.",
    )
    gain, cost, chosen = figure.subplots(3, 1, gridspec_kw={"height_ratios": [5, 3, 3]})
    places = {_best(value, share): place for value in SMOOTHINGS for place, share in enumerate(SHARES)}
    drawing.lines(
        gain, table, "gain_over_labels", places.get, lambda at, side: at + 0.09 * side, smoothing_map.POINTS
    )
    drawing.heading(gain, "gain over a student of labels, best temperature")
    if gain.has_data():
        gain.axhline(0, color="#555555", linewidth=1, linestyle=":")
        gain.set_ylabel("points")
        gain.set_xticks(range(len(SHARES)), _shares_with_labels(table))
        gain.set_xlim(-0.5, len(SHARES) - 0.5)
        handles, names = gain.get_legend_handles_labels()
        short = [name.removeprefix("students of teacher ") for name in names]
        gain.legend(handles, short, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        drawing.open_frame(gain)
    else:
        drawing.nothing(gain)
    _cost_at_best(figure, cost, table)
    _write_chosen(chosen, table)
    chosen.set_xlabel(_SHARE_SEEN)
    return figure


def _shares_with_labels(table: Table) -> list[str]:
    """Each size, and below it how accurate students of labels are."""
    names = []
    for share, name in zip(SHARES, _shares(MAIN), strict=True):
        accuracies = table.by_seed(_of_labels(share), "accuracy").values()
        names.append(f"{name}\n({smoothing_map.POINTS * fmean(accuracies):.1f} %)" if accuracies else name)
    return names


def _cost_at_best(figure: Figure, axes: Axes, table: Table) -> None:
    """A map of sizes and strengths of smoothing, at the best temperature of each teacher."""
    judged = {
        (row, column): smoothing_map.compare(table, _best(0, share), _best(value, share))
        for (row, value), (column, share) in product(enumerate(SMOOTHINGS[1:]), enumerate(SHARES))
    }
    cells = {place: cell for place, cell in judged.items() if cell is not None}
    shown = smoothing_map.Map("cost of smoothing, best temperature of each teacher", cells)
    scale = smoothing_map.scale_of([shown])
    strengths = [f"ε = {value:g}" for value in SMOOTHINGS[1:]]
    smoothing_map.draw_map(axes, shown, scale, strengths, _shares(MAIN))
    smoothing_map.key_below(figure, [axes], scale, _HELPS, _HURTS)


def _write_chosen(axes: Axes, table: Table) -> None:
    """A table of the temperatures that held-out images chose."""
    drawing.heading(axes, "temperature chosen on held-out images")
    empty = True
    for (row, value), (column, share) in product(enumerate(SMOOTHINGS), enumerate(SHARES)):
        temperatures = table.by_seed(_best(value, share), "chosen_temperature").values()
        if temperatures:
            low, high = min(temperatures), max(temperatures)
            text = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=10)
            empty = False
    if empty:
        drawing.nothing(axes)
        return
    axes.set_xticks(range(len(SHARES)), _shares(MAIN))
    axes.set_yticks(range(len(SMOOTHINGS)), [f"ε = {value:g}" for value in SMOOTHINGS])
    axes.set_xlim(-0.5, len(SHARES) - 0.5)
    axes.set_ylim(-0.5, len(SMOOTHINGS) - 0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
