"""Should I smooth my teacher? What a smoothed teacher costs its students, over images, temperature and smoothing.

Müller, Kornblith & Hinton (2019, section 4) find that smoothed teachers teach worse; Shen et al. (2021) that they
need not; Chandrasegaran et al. (2022) that it is the temperature: with a smoothed teacher, take T = 1. Here all
three stand on one map: the test accuracy of the hard teacher's student minus that of the smoothed teacher's, over
the size of the transfer set, the temperature and the smoothing. Where that is positive, smoothing hurts.

What is varied. The teacher has 10,000 images of Fashion-MNIST; its students see 1, 3, 10, 30 or 100 % of them,
smaller parts lying in larger ones, for equally many steps. Students learn from soft targets alone, with the
temperature on both sides, times T² (the loss of Shen and of Chandrasegaran; Müller's on CIFAR divides the teacher's
logits only). The two students of a cell share seed, initial weights, images and their order; paired differences of
five seeds decide. All seeds share one draw of the images: intervals say nothing of another 100 images. Two smaller
maps ask the question of 16 stored views per image (15 where there are 15 epochs), read in turn, with teachers
trained on views for twice the epochs and students of labels that see a new view in every epoch (`patience` cannot
tell the two apart), and of a narrow student (16 hidden units). Cells of their own show how these differ from the
main map.

The practical answer compares the best that a user can do with each teacher: for each seed the temperature, of the
four, is chosen on held-out images, 10,000 even where the transfer set has 100: whoever has fewer chooses worse.

What to bear in mind. The points were chosen after a look at three seeds of 100, 1,000 and 10,000 images at T = 1
and 4, with test accuracy in view: claims on 1 % at T = 4 are confirmed by two new seeds only. About one cell in
twenty without any effect is decided all the same, and chance shows in neighbours alike, since one teacher per seed
and smoothing stands behind all of them. The claims are therefore few: Müller's and Chandrasegaran's directions (one
comparison is listed under both), and expectations of our own on few images, the best temperature, capacity and
augmentation, for which "reproduced" means that they came true.

At 1 %, students of smoothed teachers lose held-out accuracy in the later of 1,170 epochs, so who stops early pays
less; and most of the cost is a matter of scale, of which `restore` has more.

How to ask it of your own data: `distill reproduce when_smoothing_hurts --data imagefolder:PATH`, with a folder or
tar that has `train/<class>/`, `test/<class>/` and at least 12,500 training images at `quick`, 50,000 above it; a
fifth is held out. Sizes are then parts of 10,000 (40,000) images, the networks those of CIFAR-10, and seeds three
at `quick`, so more cells stay undecided. The map knows nothing of other networks or lengths of training, images
that the teacher was not trained on, students that mix labels into their targets, and what smoothing does for the
teacher.

Cost at `quick` on two CPU cores: 710 networks, 29 minutes, without the 30 teachers of Figures 2, 5 and 6. At
`smoke` only the points that claims speak of, and one seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from distill.config import AugmentConfig
from distill.metrics.measures import Measure
from distill.reports.experiment import Claim, Label, Network, Published, Runs, Scale, Table
from experiments.base import (
    DATA_OF_FIGURES,
    SNAPSHOTS,
    Setting,
    images_of,
    mlp,
    of_few,
    on_views,
    setting_of_figures,
)
from experiments.conditions import (
    OF_LABELS,
    between,
    caches,
    claims,
    distilled,
    labelled,
    smoothed,
    student_of,
    teacher_of,
)

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of the teacher's training images that students see."""
TEMPERATURES = (1.0, 2.0, 4.0, 16.0)
SMOOTHINGS = (0.0, 0.1, 0.3, 0.6)
VIEWS = 16
"""Stored views per image of augmented students, read in turn: `patience` cannot tell them from one per epoch."""
SMALL = mlp(16)

DATA = DATA_OF_FIGURES
MEASURES = (
    *(Measure(f"cost_T{at}", f"cost at T={at}", "points", 2) for at in (1, 2, 4, 16)),
    Measure("gain_over_labels", "gain over labels", "points", 2),
    Measure("chosen_temperature", "chosen temperature", decimals=2),
)


@dataclass(frozen=True)
class Panel:
    """One map: its points, and the suffix of the names of its networks."""

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
"""Points of the smoke scale: those that claims speak of."""


def _teacher_of(smoothing: float, panel: Panel) -> str:
    # Narrow students have the same teachers as wide ones.
    return teacher_of(smoothing) + (panel.suffix if panel.suffix == AUGMENTED.suffix else "")


def distilled_of(smoothing: float, temperature: float, share: float, panel: Panel = MAIN) -> str:
    """Name a student by its teacher's smoothing, its temperature and its share of the images."""
    return f"{student_of(smoothing, temperature)}, {share:.0%}{panel.suffix}"


def of_labels(share: float, panel: Panel = MAIN) -> str:
    """Name a student of labels by its share of the images."""
    return f"{OF_LABELS}, {share:.0%}{panel.suffix}"


def best_of(smoothing: float, share: float) -> str:
    """Name the student at the temperature that held-out images choose."""
    return f"student of ε={smoothing:g}, best T, {share:.0%}"


def cost_of(smoothing: float, share: float, panel: Panel = MAIN) -> str:
    """Name what a smoothing costs students of a share of the images."""
    return f"cost of ε={smoothing:g}, {share:.0%}{panel.suffix}"


def cost_at(temperature: float) -> str:
    """Name the measure of a cost: accuracy of the hard teacher's student minus that of the smoothed teacher's."""
    return f"cost_T{temperature:g}"


_R18 = "Chandrasegaran 2022, official tables: ImageNet top-1 of ResNet-18, teacher ResNet-50"
_ROWS = (1, 0.71488, 0.71666), (2, 0.71360, 0.68860), (3, 0.69674, 0.67752), (64, 0.66194, 0.64362)
_SHEN = "Shen 2021, Table 2: ImageNet top-1 of ResNet-18, T=1, teacher ResNet-50"
_MUELLER = "Müller 2019, section 4: MNIST test error of a student"
PAPER = [
    Published(f"{_MUELLER} of the teacher of ε=0 (with dropout)", 0.0074),
    Published(f"{_MUELLER} of the teacher of ε=0.1", 0.0091),
    Published(f"{_SHEN} of ε=0", 0.71425, 0.00038),
    Published(f"{_SHEN} of ε=0.1", 0.71816, 0.00017),
    *(
        Published(f"{_R18} of ε={smoothing:g}, T={temperature}", value)
        for temperature, *values in _ROWS
        for smoothing, value in zip((0, 0.1), values, strict=True)
    ),
]

_USUAL = 0.1


def _pair(temperature: float, share: float) -> tuple[str, str]:
    """Return the students of the smoothed and of the hard teacher."""
    return distilled_of(_USUAL, temperature, share), distilled_of(0, temperature, share)


_STUDENT = "a student of the smoothed teacher"
# fmt: off
CLAIMS = [
    *claims("mueller-{0:.0%}-T{1:g}", f"{{0:.0%}} of the images, T={{1:g}}: {_STUDENT} is less accurate",
            "accuracy", {(share, at): _pair(at, share) for share, at in product((1.0, 0.01), (1, 4, 16))}, "lower"),
    Claim("few-images", "T=4: smoothing costs more with 1% of the images than with all", cost_at(4),
          cost_of(_USUAL, 0.01), cost_of(_USUAL, 1.0), "higher"),
    *between(*_pair(1, 1.0),
             ("chandrasegaran-T1", f"T=1, all images: {_STUDENT} is more accurate", "accuracy", "higher")),
    Claim("chandrasegaran-T16", "all images: smoothing costs more at T=16 than at T=1", cost_at(16),
          cost_of(_USUAL, 1.0), cost_of(_USUAL, 1.0), "higher", versus_measure=cost_at(1)),
    *claims("best-T-{:.0%}", f"{{:.0%}} of the images, best T of each: {_STUDENT} is more accurate", "accuracy",
            {share: (best_of(_USUAL, share), best_of(0, share)) for share in SHARES}, "higher"),
    Claim("capacity", "10% of the images, T=4: smoothing costs a narrow student more than a wide one", cost_at(4),
          cost_of(_USUAL, 0.1, NARROW), cost_of(_USUAL, 0.1), "higher"),
    Claim("augmentation",
          "10% of the images, T=4: smoothing costs an augmented student more than one of images as they are",
          cost_at(4), cost_of(_USUAL, 0.1, AUGMENTED), cost_of(_USUAL, 0.1), "higher"),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    built: Runs = {}
    for seed in range(chosen.seeds):
        for panel in _SMOKE if scale == "smoke" else PANELS:
            built |= labelled(dict(_networks(panel, chosen, scale, data, seed)), seed)
    return built


def _networks(panel: Panel, chosen: Setting, scale: Scale, data: str, seed: int) -> Iterator[tuple[str, Network]]:
    """Yield the networks of one map and one seed, each with its condition."""
    count = images_of(data, scale)
    images = chosen.teacher.data.replace(limit=count)
    teacher = chosen.teacher.replace(seed=seed, data=images, augment=AugmentConfig())
    if panel.suffix == AUGMENTED.suffix:
        # Those of Figure 6, snapshots and all, so that they are trained once.
        teacher = on_views(teacher, data).replace(snapshots=SNAPSHOTS)
    teachers = smoothed(teacher, panel.smoothings)
    yield from ((_teacher_of(smoothing, panel), each) for smoothing, each in teachers.items())
    narrow_or_wide = chosen.student.replace(model=SMALL) if panel.suffix == NARROW.suffix else chosen.student
    for share in panel.shares:
        student = of_few(narrow_or_wide, count, share).replace(seed=seed)
        yield of_labels(share, panel), student.replace(augment=teacher.augment)
        stored = caches(teachers, student)
        if panel.suffix == AUGMENTED.suffix:
            views = {"augment": teacher.augment, "views": min(VIEWS, student.schedule.epochs)}
            stored = {smoothing: cache.replace(**views) for smoothing, cache in stored.items()}
        name = partial(distilled_of, share=share, panel=panel)
        yield from distilled(student, stored, panel.temperatures, name).items()


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """Return the cost of smoothing at each point, and each teacher's student at its best temperature.

    Returns:
        "cost of ε=0.1, 10%": `cost_T1` and so on, for each temperature at which the seed has both students, as a
        share; "student of ε=0.1, best T, 10%": `chosen_temperature`, the lowest of equally good ones, and of the
        student that has it `accuracy`, `held_out_accuracy` and `gain_over_labels`.
    """
    rows: dict[Label, dict[str, float]] = {}
    for panel in PANELS:
        for smoothing, share, temperature in product(panel.smoothings[1:], panel.shares, panel.temperatures):
            hard = table.by_seed(distilled_of(0, temperature, share, panel), "accuracy")
            smoothed = table.by_seed(distilled_of(smoothing, temperature, share, panel), "accuracy")
            for seed in sorted(hard.keys() & smoothed.keys()):
                at = rows.setdefault(Label(cost_of(smoothing, share, panel), seed), {})
                at[cost_at(temperature)] = hard[seed] - smoothed[seed]
    for smoothing, share in product(SMOOTHINGS, SHARES):
        rows |= _chosen(table, smoothing, share)
    return rows


def _chosen(table: Table, smoothing: float, share: float) -> dict[Label, dict[str, float]]:
    """Return for each seed the student whose temperature has the highest accuracy on held-out images.

    A diverged student is not chosen. A seed that lacks a temperature is left out: its best would be that of fewer.
    """
    known = {*table.values, *table.diverged}
    students = {temperature: distilled_of(smoothing, temperature, share) for temperature in TEMPERATURES}
    tried = {label.condition for label in known} & set(students.values())
    rows = {}
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
        labels = table.values.get(Label(of_labels(share), seed))
        if labels:
            values["gain_over_labels"] = values["accuracy"] - labels["accuracy"]
        rows[Label(best_of(smoothing, share), seed)] = values | {"chosen_temperature": best}
    return rows


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report, the map first."""
    # Imported late: it takes its names from here.
    from experiments import when_smoothing_hurts_figures

    return when_smoothing_hurts_figures.draw(table)
