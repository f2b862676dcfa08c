"""What label smoothing does, on paper and in a trained network.

The algebra of label smoothing in steps that can be run, and networks that are trained to the minimum it predicts. A
loss with smoothed labels is least where the network's probabilities are its targets: the label's logit then exceeds
each other one by log((1-ε)K/ε + 1), a finite gap, where hard labels have none. Steps of the page compute this with
the losses that train networks here, in float64; the networks ask whether training gets there.

The networks: one hidden layer of 512 on digits, no views, no decay, no clipping, 300 epochs, so that nothing but
the loss decides where the logits go. Five strengths of smoothing in the uniform convention, one in the other
convention, where 1 - ε is left for the label and ε shared by the others: at ε = 0.1 and ten classes that is another
loss, and its minimum 2.6 % lower. The gap is measured on the training images, without augmentation, as the label's
logit minus the mean of the others, mean over images.

How to read the claims. "Reached" means within 1 % of the minimum, both sides, and has two claims for each loss: a
verdict here says "lower" or "higher". 1 % is less than half of the 2.6 % between the two conventions: no gap can
count as reached for both. It was not tuned, but one seed of each loss had been seen before it was set, and training
was made long and plain for the minimum to be reached. That it is reached says that the theory describes a network
wide enough and trained long enough, and nothing of one with decay, clipping or views, which stays below. Theory is
about training images only: what test images get is another matter.

From the paper (Müller et al. 2019) are the targets (section 1) and the view of the last layer as distances to
templates, with equal distances to those of all incorrect classes (section 2); it has no numbers on this. The
decomposition is Szegedy et al.'s (2016, section 7), the confidence penalty Pereyra et al.'s (2017), MaxSup Zhou et
al.'s (2025).

Cost at `quick` on two CPU cores: 60 networks, 2 minutes while other work shared the cores. At `smoke`
there is one seed of three losses, briefly trained, and no verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from distill.config import (
    AugmentConfig,
    KnowledgeProbe,
    OptimConfig,
    ScheduleConfig,
    SmoothingConvention,
)
from distill.metrics.measures import Measure, Topic
from distill.reports.experiment import Claim, Label, Runs, Scale, Table
from experiments import drawing
from experiments.base import DIGITS, always, mlp, setting
from experiments.conditions import HARD, claims, teachers
from experiments.drawing import Axes, Figure
from experiments.smoothing_steps import CELLS as CELLS

DATA = DIGITS
_REACHED = Topic("Where smoothed training ends, training images")
MEASURES = (
    Measure("reached_gap", "gap", topic=_REACHED),
    Measure("reached_optimum", "optimum", topic=_REACHED),
    Measure("reached_share", "share", "%", 2, _REACHED),
    Measure("reached_probability", "label's prob.", "%", 2, _REACHED),
    Measure("reached_ceiling", "target", "%", 2, _REACHED),
)
SMOOTHINGS = (0.05, 0.1, 0.2, 0.4)
TOLERANCE = 0.01
"""Tolerance of "reached": less than half of the distance between both conventions at ε = 0.1."""
OTHERS = f"teacher ε={drawing.USUAL:g} over the others"
LOSSES: dict[str, tuple[float, SmoothingConvention]] = {
    **{f"teacher ε={smoothing:g}": (smoothing, "uniform") for smoothing in SMOOTHINGS},
    OTHERS: (drawing.USUAL, "others"),
}
"""Condition of a teacher of smoothed labels → ε and its convention."""
BELOW, ABOVE = (f"{1 + side * TOLERANCE:.0%} of the optimum" for side in (-1, 1))


def _training(teacher: str) -> str:
    """Name what a teacher's training reached, beside what it could."""
    return f"training at {teacher.removeprefix('teacher ')}"


_NAMES = {
    ("others" if teacher == OTHERS else f"{smoothing:g}", teacher.removeprefix("teacher ")): teacher
    for teacher, (smoothing, _) in LOSSES.items()
}
"""Part in the id of a claim, and the loss in words → condition of a teacher of smoothed labels."""
# fmt: off
CLAIMS = [
    *claims("reached-{0}", f"{{1}}: the gap of training images is above {BELOW}", "reached_share",
            {named: (_training(teacher), BELOW) for named, teacher in _NAMES.items()}, "higher"),
    *claims("not-passed-{0}", f"{{1}}: the gap of training images is below {ABOVE}", "reached_share",
            {named: (_training(teacher), ABOVE) for named, teacher in _NAMES.items()}, "lower"),
    Claim("conventions", "ε=0.1: over the others, training ends at a smaller gap than over all classes",
          "gap_train", OTHERS, f"teacher ε={drawing.USUAL:g}", "lower"),
    Claim("hard", f"hard labels: the gap exceeds the largest of these optima, that of ε={SMOOTHINGS[0]:g}",
          "gap_train", HARD, _training(f"teacher ε={SMOOTHINGS[0]:g}"), "higher", versus_measure="reached_optimum"),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting(data, scale)
    teacher = chosen.teacher
    if data == "digits":
        # Nothing but the loss: no decay, no clipping, no views, and wide enough to reach the minimum.
        teacher = teacher.replace(
            model=mlp(512),
            augment=AugmentConfig(),
            optim=OptimConfig(lr=0.1, clip=None),
            schedule=ScheduleConfig(epochs=4 if scale == "smoke" else 300, batch_size=64),
        )
    seeds = range(chosen.seeds)
    smoothings = (drawing.USUAL,) if scale == "smoke" else SMOOTHINGS
    others = teacher.with_loss(smoothing=0.1, smoothing_convention="others")
    over_others: Runs = {Label(OTHERS, seed): others.replace(seed=seed) for seed in seeds}
    return teachers(teacher, seeds, (0.0, *smoothings)) | over_others


probes = always(KnowledgeProbe())


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """Return what each training reached beside what it could, and the two bounds of "reached".

    Returns:
        "training at ε=0.1": `reached_gap` of training images and `reached_optimum`, `reached_share` of the one in
        the other, `reached_probability` (mean probability of the label) and `reached_ceiling`, what it is at the
        optimum; "99 % of the optimum": `reached_share`.
    """
    rows: dict[Label, dict[str, float]] = {}
    classes = len(table.classes)
    for teacher, (smoothing, convention) in LOSSES.items():
        wrong = table.by_seed(teacher, "wrong_mass_train")
        for seed, gap in table.by_seed(teacher, "gap_train").items():
            best = optimum(smoothing, convention, classes)
            rows[Label(_training(teacher), seed)] = {
                "reached_gap": gap,
                "reached_optimum": best,
                "reached_share": gap / best,
                "reached_probability": 1 - wrong[seed] * (classes - 1) / classes,
                "reached_ceiling": target(smoothing, convention, classes),
            }
            rows[Label(BELOW, seed)] = {"reached_share": 1 - TOLERANCE}
            rows[Label(ABOVE, seed)] = {"reached_share": 1 + TOLERANCE}
    return rows


def optimum(smoothing: float, convention: SmoothingConvention, classes: int) -> float:
    """Return the gap at which the loss is least: log((1-ε)K/ε + 1), ε in the uniform convention."""
    from distill.losses import in_uniform
    from distill.metrics.dark_knowledge import optimal_gap

    return optimal_gap(in_uniform(smoothing, convention, classes), classes)


def target(smoothing: float, convention: SmoothingConvention, classes: int) -> float:
    """Return the label's share of its smoothed target: 1 - ε + ε/K, ε in the uniform convention."""
    from distill.losses import in_uniform
    from distill.metrics.confidence import ceiling

    return ceiling(in_uniform(smoothing, convention, classes), classes)


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    reached = _new(
        "Gap of the training images, the label's logit minus the mean of the others: the minimum of the loss "
        "(line), and where each training ended (a mark per seed). Over the others, the ε of the axis is the one "
        "that gives the same targets.",
        "gap of training images, logits",
    )
    sure = _new(
        "Mean probability of the label on training images: its share of the target, 1 - ε + ε/K (line), and where "
        "each training ended (one mark per seed).",
        "mean probability of the label, %",
    )
    for figure, quantity, best, scale in (
        (reached, "reached_gap", optimum, 1),
        (sure, "reached_probability", target, 100),
    ):
        (axes,) = figure.axes
        if _marks(axes, table, quantity, scale):
            _theory(axes, best, scale, len(table.classes))
            axes.legend(frameon=False)
        else:
            drawing.nothing(axes)
    return {"gap": reached, "probability": sure}


def _new(caption: str, quantity: str) -> Figure:
    figure = drawing.new_figure(3.6, caption)
    axes = figure.subplots()
    axes.set(xlabel="smoothing ε, uniform convention", ylabel=quantity)
    drawing.open_frame(axes)
    return figure


def _marks(axes: Axes, table: Table, quantity: str, scale: float) -> bool:
    """Draw a mark per seed and loss; tell whether there was any."""
    shown = False
    looks = {
        "uniform": {"color": drawing.SMOOTHED[0], "marker": "o", "s": 22},
        "others": {"color": drawing.HARD, "marker": "^", "s": 30},
    }
    named = {"uniform": "trained, over all classes", "others": "trained, over the others"}
    for teacher, (smoothing, convention) in LOSSES.items():
        heights = [scale * value for value in table.by_seed(_training(teacher), quantity).values()]
        if heights:
            from distill.losses import in_uniform

            places = [in_uniform(smoothing, convention, len(table.classes))] * len(heights)
            label, style = named.pop(convention, None), looks[convention]
            axes.scatter(places, heights, alpha=0.75, linewidth=0, zorder=3, label=label, **style)
            shown = True
    return shown


def _theory(
    axes: Axes, best: Callable[[float, SmoothingConvention, int], float], scale: float, classes: int
) -> None:
    """Draw the minimum of the loss over the smoothings of the figure."""
    places = [0.03 + 0.004 * step for step in range(98)]
    heights = [scale * best(place, "uniform", classes) for place in places]
    axes.plot(places, heights, color="#444444", linewidth=1.4, label="minimum of the loss")
    axes.set_xlim(0, 0.44)
