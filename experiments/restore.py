"""Can a smoothed teacher be given back its dark knowledge? Other losses, temperatures, checkpoints and MaxSup.

Where smoothing hurts (few images, T = 4), which remedy closes the gap to the teacher of hard labels, and what does
it do to the teacher's calibration? A question of our own about the remedies of others: logit standardisation (Sun
et al. 2024), DIST (Huang et al. 2022), DKD (Zhao et al. 2022), weighted soft labels (WSL, Zhou et al. 2021), a
temperature of its own for the label (ATS, Li et al. 2022), a temperature of each teacher's own (Chandrasegaran et
al. 2022 find a low one for smoothed teachers), an early checkpoint of the smoothed teacher, and, in place of
smoothing, maximum suppression (MaxSup, Zhou et al. 2025).

Per seed: teachers of hard labels, of labels smoothed by 0.1 and of MaxSup 0.1; students that see 1 % of their
teacher's images, for as many steps as if they had all, and differ in their targets and loss alone. The place was
chosen after a look at three seeds with test accuracy in view: of 10,000 images of Fashion-MNIST, students of 100
were at T = 4 about two points less accurate after the smoothed teacher than after the hard one, and students of
1,000 or all images differed by 0.2 points at most. So that there is a gap is no discovery of this experiment; what
closes it is. Students at T = 1, 2, 4 and 16 of these two teachers are those of `when_smoothing_hurts`, the same
networks again and no replication. All seeds share one draw of 100 images: intervals say nothing of another 100.

What is chosen is chosen per seed on held-out images, the first of equals: a temperature of six ("best T"), one of
the checkpoints or the end ("best checkpoint", all at T = 4), and any of all these students ("best remedy"). The
held-out set is large (10,000 images at `quick`): whoever has 100 images to teach with would choose with more
noise.

How to read the claims. That a remedy closes the gap cannot be a verdict of ours, which say "lower" or "higher":
the claims are "still less accurate than the student of the hard teacher at its best T", so an undecided one means
that the gap is not seen any more (five seeds can hide a point), and a contradicted one that it is more than
closed. A remedy that helps the hard teacher as much has restored nothing: figure and table have each remedy on
all teachers, `accuracy_gap_same_remedy` is what is left between both teachers with one remedy, and the claims
"fair-…" are about that. That claim for logit standardisation was added after its result had been seen. The gap at
T = 4, from which all of these start, was chosen for being large, so they lean towards "narrowed". A loss comes
with its paper's temperature, which alone may be what helps: compare it with "best T", the plain loss at a
temperature of choice. Eight remedies are eight chances, and intervals are not corrected for that.

Calibration (ECE of the teacher as it is, not scaled by a temperature): the temperature and the loss of a student
leave the teacher alone. MaxSup is another teacher, and so is an earlier checkpoint, whose ECE the probe of
snapshots measures. MaxSup penalises the largest logit where smoothing penalises the label's (against the mean
logit, both): of an image that the teacher gets right they are one loss, and the teachers here are meant to fit
their training images, so that little may lie between the two. That MaxSup keeps what differs within a class is its
paper's claim about features; here it is asked of logits.

What departs from the papers: `alpha` = 1, soft targets alone, for every loss, while theirs add the loss of the
labels with weights of their own (and DKD a warm-up): what is compared is what reaches a student from its teacher.
Temperatures are theirs: standardised and WSL 2, DIST 1 (its code's default), DKD 4, ATS 4 for the label and 2 for
the others, with its student at 1. Their students see all images, ours few; their pairs are mostly ResNets on
CIFAR-100 and ImageNet, ours at `quick` a small convolutional network and an MLP on Fashion-MNIST. Nothing is
augmented, at `short` and `paper` neither: a student's few images are one vector each. Early checkpoints are of
the hard and the smoothed teacher, not of that of MaxSup.

Cost at `quick` on two CPU cores: 225 networks, 20 minutes while other work shared the cores. At `smoke` there is
one seed, and no verdict. Command: `distill reproduce restore`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from distill.config import AugmentConfig, CacheConfig, LossConfig, SnapshotsProbe, StudentConfig, TeacherConfig
from distill.metrics.measures import Measure
from distill.metrics.verdict import Interval, interval
from distill.reports.experiment import Claim, Label, Published, Scale, Table
from experiments import drawing
from experiments.base import DATA_OF_FIGURES, images_of, of_few, setting_of_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTHING = 0.1
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
REMEDIES = {
    "standardised": LossConfig(soft="standardised", temperature=2),
    "DIST": LossConfig(soft="dist", temperature=1),
    "DKD": LossConfig(soft="dkd", temperature=4),
    "WSL": LossConfig(soft="wsl", temperature=2),
    "decoupled temperatures": LossConfig(soft="decoupled", temperature=2, kwargs={"label_temperature": 4}),
}
"""Loss of a student, at the temperatures of the papers that propose it."""
PARTS = 5
"""Snapshots of a teacher along its training."""
TRANSFER_SHARE = 0.01
"""Of the teacher's images, the part that students see."""
HARD, SMOOTHED, SUPPRESSED = "teacher ε=0", f"teacher ε={SMOOTHING:g}", f"teacher MaxSup {SMOOTHING:g}"

TEACHERS = HARD, SMOOTHED, SUPPRESSED
OF_LABELS = "student of labels"
PLAIN = "T=4"
"""How a student learns where nothing is done about smoothing."""
BEST_T, BEST_CHECKPOINT, BEST_REMEDY = "best T", "best checkpoint", "best remedy"


def _student(teacher: str, how: str) -> str:
    return f"student of {teacher.removeprefix('teacher ')}, {how}"


def _early(part: int) -> str:
    return f"{PLAIN}, checkpoint {part} of {PARTS}"


_TEMPERED = {f"T={temperature:g}": temperature for temperature in TEMPERATURES}
_CHECKPOINTS = {PLAIN: PARTS} | {_early(part): part for part in range(PARTS - 1, 0, -1)}
"""The end first, so that of equals the one that changes least is taken."""

REPRODUCES = ""
DATA = DATA_OF_FIGURES
MEASURES = (
    Measure("accuracy_gap", "gap", "points", 2),
    Measure("accuracy_gap_best", "gap to the best T", "points", 2),
    Measure("accuracy_gap_same_remedy", "gap, same remedy", "points", 2),
    Measure("chosen_temperature", "chosen temperature", decimals=2),
)
_PAIR = "ResNet-56 to ResNet-20 on CIFAR-100"
_WITHIN = "Zhou 2025 (MaxSup), Table 2: variation within a class (1 - cosine), ResNet-50 on ImageNet, validation"
PAPER = [
    Published(f"Zhao 2022 (DKD), the authors' code: {_PAIR}, plain distillation", 0.7066),
    Published(f"Zhao 2022 (DKD), the authors' code: {_PAIR}, DKD", 0.7197),
    Published(f"Sun 2024, the authors' code: {_PAIR}, standardised logits", 0.7143),
    Published(f"Huang 2022 (DIST): {_PAIR}, DIST", 0.7175, 0.0030),
    Published("Huang 2022 (DIST): ResNet-34 to ResNet-18 on ImageNet, plain distillation at T=4", 0.7121),
    Published("Huang 2022 (DIST): ResNet-34 to ResNet-18 on ImageNet, DIST", 0.7207),
    Published("Zhou 2021 (WSL), the authors' code: ResNet-34 to ResNet-18 on ImageNet, WSL", 0.7204),
    Published(f"{_WITHIN}, hard labels", "0.331"),
    Published(f"{_WITHIN}, smoothing", "0.254"),
    Published(f"{_WITHIN}, MaxSup", "0.300"),
]

_REMEDIED = {
    "temperature": ("its best T", _student(SMOOTHED, BEST_T)),
    "standardised": ("logit standardisation", _student(SMOOTHED, "standardised")),
    "dist": ("DIST", _student(SMOOTHED, "DIST")),
    "dkd": ("DKD", _student(SMOOTHED, "DKD")),
    "wsl": ("WSL", _student(SMOOTHED, "WSL")),
    "decoupled": ("a temperature of its own for the label", _student(SMOOTHED, "decoupled temperatures")),
    "checkpoint": ("its best checkpoint", _student(SMOOTHED, BEST_CHECKPOINT)),
    "maxsup": ("MaxSup in place of smoothing", _student(SUPPRESSED, PLAIN)),
}
"""Id of a claim → the remedy in words, and the student that had it."""

CLAIMS = [
    Claim(
        "gap",
        "T=4: a student of the smoothed teacher is less accurate than one of the hard teacher",
        "accuracy",
        _student(SMOOTHED, PLAIN),
        _student(HARD, PLAIN),
        "lower",
    ),
    *(
        Claim(
            f"raised-{name}",
            f"{remedy} raises the accuracy of the smoothed teacher's student above that at T=4",
            "accuracy",
            student,
            _student(SMOOTHED, PLAIN),
            "higher",
        )
        for name, (remedy, student) in _REMEDIED.items()
    ),
    *(
        Claim(
            f"behind-{name}",
            f"with {remedy}, its student is still less accurate than the hard teacher's at its best T",
            "accuracy",
            student,
            _student(HARD, BEST_T),
            "lower",
        )
        for name, (remedy, student) in _REMEDIED.items()
    ),
    Claim(
        "more-than-temperature",
        "for the smoothed teacher, the best remedy is more accurate than the best T",
        "accuracy",
        _student(SMOOTHED, BEST_REMEDY),
        _student(SMOOTHED, BEST_T),
        "higher",
    ),
    Claim(
        "fair-temperature",
        "a T of each teacher's own narrows the gap between their students: the smoothed teacher gains more from it",
        "accuracy_gap_same_remedy",
        f"gap of {BEST_T}",
        f"gap of {PLAIN}",
        "lower",
    ),
    Claim(
        "fair-standardised",
        "logit standardisation for both narrows the gap between their students: the smoothed teacher gains more",
        "accuracy_gap_same_remedy",
        "gap of standardised",
        f"gap of {PLAIN}",
        "lower",
    ),
    Claim(
        "fair-checkpoint",
        "a checkpoint of each teacher's own narrows the gap between their students: the smoothed one gains more",
        "accuracy_gap_same_remedy",
        f"gap of {BEST_CHECKPOINT}",
        f"gap of {PLAIN}",
        "lower",
    ),
    Claim(
        "fair-remedy",
        "with the best remedy of each teacher, the smoothed one's student is still less accurate",
        "accuracy",
        _student(SMOOTHED, BEST_REMEDY),
        _student(HARD, BEST_REMEDY),
        "lower",
    ),
    Claim("maxsup-accuracy", "MaxSup raises the teacher's accuracy", "accuracy", SUPPRESSED, HARD, "higher"),
    Claim("maxsup-ece", "MaxSup lowers the teacher's ECE", "ece", SUPPRESSED, HARD, "lower"),
    Claim(
        "maxsup-variance",
        "MaxSup leaves the teacher more inter-class logit variance, relative to the squared gap, than smoothing",
        "interclass_variance_relative",
        SUPPRESSED,
        SMOOTHED,
        "higher",
    ),
]


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    images = images_of(data, scale)
    base = chosen.teacher.replace(data=chosen.teacher.data.replace(limit=images), augment=AugmentConfig())
    student = of_few(chosen.student, images, TRANSFER_SHARE)
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(1 if scale == "smoke" else chosen.seeds):
        teachers = {
            HARD: base.replace(snapshots=PARTS),
            SMOOTHED: base.replace(snapshots=PARTS).with_loss(smoothing=SMOOTHING),
            SUPPRESSED: base.with_loss(smoothing=SMOOTHING, smoothing_convention="maxsup"),
        }
        found[Label(OF_LABELS, seed)] = student.replace(seed=seed)
        for name, teacher in teachers.items():
            teacher = teacher.replace(seed=seed)
            found[Label(name, seed)] = teacher
            for how, cache, loss in _ways(CacheConfig(teacher=teacher, transfer_set=student.data)):
                found[Label(_student(name, how), seed)] = student.replace(seed=seed, cache=cache, loss=loss)
    return found


def _ways(cache: CacheConfig) -> Iterator[tuple[str, CacheConfig, LossConfig]]:
    """How a student can learn from one teacher: name, what it reads, and its loss."""
    for temperature in TEMPERATURES:
        yield f"T={temperature:g}", cache, LossConfig(temperature=temperature)
    for name, loss in REMEDIES.items():
        yield name, cache, loss
    kept = cache.teacher.snapshots if isinstance(cache.teacher, TeacherConfig) else 0
    for part in range(1, kept):
        yield _early(part), cache.replace(snapshot=part), LossConfig(temperature=4)


def probes(scale: Scale, data: str) -> tuple[SnapshotsProbe]:
    """Calibration of teachers along their training."""
    return (SnapshotsProbe(),)


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """What was chosen on held-out images, and the gaps that are left, per seed.

    "student of …, best T", "…, best checkpoint" (of teachers with early ones) and "…, best remedy": `accuracy` and
    `held_out_accuracy` of the student that is the most accurate on held-out images of those there are, and
    `chosen_temperature` or `chosen_checkpoint` (the last part is the end). Of equals that of the lower temperature,
    of the later checkpoint, and temperatures before losses before checkpoints.

    "gap of …", of students of the smoothed teacher, or of MaxSup where it is named: `accuracy_gap`, accuracy of the
    student of the hard teacher at T=4 less that of this one, 0 for a gap that is closed; `accuracy_gap_best`, the
    same for the hard teacher at its best T; `accuracy_gap_same_remedy`, for the hard teacher with the same remedy.
    All are shares, and left out where a student is missing.
    """
    found: dict[Label, dict[str, float]] = {}
    for seed in sorted({label.seed for label in table.values}):
        for teacher in TEACHERS:
            found |= _choices(table, teacher, seed)
        found |= _gaps(Table({**table.values, **found}), seed)
    return found


def _choices(table: Table, teacher: str, seed: int) -> dict[Label, dict[str, float]]:
    """The students of one teacher that held-out images choose."""
    found = {}
    if best := _chosen(table, teacher, seed, _TEMPERED):
        found[BEST_T] = _of(table, teacher, best, seed) | {"chosen_temperature": _TEMPERED[best]}
    stopped = any(_of(table, teacher, how, seed) for how in _CHECKPOINTS if how != PLAIN)
    if stopped and (best := _chosen(table, teacher, seed, _CHECKPOINTS)):
        found[BEST_CHECKPOINT] = _of(table, teacher, best, seed) | {"chosen_checkpoint": float(_CHECKPOINTS[best])}
    if best := _chosen(table, teacher, seed, (*_TEMPERED, *REMEDIES, *_CHECKPOINTS)):
        found[BEST_REMEDY] = _of(table, teacher, best, seed)
    return {Label(_student(teacher, name), seed): measures for name, measures in found.items()}


def _chosen(table: Table, teacher: str, seed: int, ways: Iterable[str]) -> str | None:
    """The way whose student is the most accurate on held-out images, the first of equals; None without any."""
    held_out = {how: found["held_out_accuracy"] for how in ways if (found := _of(table, teacher, how, seed))}
    return max(held_out, key=lambda how: held_out[how]) if held_out else None


def _of(table: Table, teacher: str, how: str, seed: int) -> dict[str, float]:
    """Both accuracies of one student; nothing unless both are there."""
    measures = table.values.get(Label(_student(teacher, how), seed), {})
    both = {name: measures[name] for name in ("accuracy", "held_out_accuracy") if name in measures}
    return both if len(both) == 2 else {}


_GAPS = {f"gap of {how}": (SMOOTHED, how) for how in (PLAIN, BEST_T, *REMEDIES, BEST_CHECKPOINT, BEST_REMEDY)} | {
    f"gap of {SUPPRESSED.removeprefix('teacher ')}, {how}": (SUPPRESSED, how) for how in (PLAIN, BEST_T)
}


def _gaps(table: Table, seed: int) -> dict[Label, dict[str, float]]:
    """How far students stay behind those of the hard teacher."""

    def accuracy(teacher: str, how: str) -> float | None:
        return table.values.get(Label(_student(teacher, how), seed), {}).get("accuracy")

    found = {}
    for condition, (teacher, how) in _GAPS.items():
        own = accuracy(teacher, how)
        others = {
            "accuracy_gap": accuracy(HARD, PLAIN),
            "accuracy_gap_best": accuracy(HARD, BEST_T),
            "accuracy_gap_same_remedy": accuracy(HARD, how),
        }
        gaps = {name: other - own for name, other in others.items() if own is not None and other is not None}
        if gaps:
            found[Label(condition, seed)] = gaps
    return found


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report, the answer first."""
    return {
        "remedies": _remedies(table),
        "calibration": _calibration(table),
        "by_temperature": _by_temperature(table),
    }


_LOOKS = dict(
    zip(TEACHERS, ((drawing.HARD, "o"), (drawing.SMOOTHED[0], "s"), (drawing.SMOOTHED[1], "^")), strict=True)
)
"""Colour and marker of each teacher."""
_GREY = "#555555"
_ROWS = {
    PLAIN: "none (T=4)",
    BEST_T: "T of its own*",
    "standardised": "standardised",
    "DIST": "DIST",
    "DKD": "DKD",
    "WSL": "WSL",
    "decoupled temperatures": "label's own T (ATS)",
    BEST_CHECKPOINT: "checkpoint*",
    BEST_REMEDY: "best of all*",
}
"""How a remedy is named in the figure; * is chosen on held-out images."""


def _remedies(table: Table) -> Figure:
    """A row per remedy, a dot per teacher."""
    figure = drawing.new_figure(
        5.6,
        "Test accuracy of students of few images by what was done about smoothing, best for the smoothed teacher "
        "above: means over seeds with 95 % intervals. Asterisk: chosen per seed on held-out images. A remedy "
        "restores something if it brings the square to the blue lines, and closer to the circle of its own row: "
        "if the circle moves as far, it helps any teacher. Lines: students of the hard teacher without a remedy "
        "and at its best T, and students of labels.",
    )
    axes = figure.subplots()
    rows = {how: found.mean for how in _ROWS if (found := _percent(table, _student(SMOOTHED, how)))}
    if not rows:
        drawing.nothing(axes)
        return figure
    order = sorted(rows, key=lambda how: rows[how])
    for at in range(0, len(order), 2):
        axes.axhspan(at - 0.5, at + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    for teacher, shift in zip(TEACHERS, (0.25, 0.0, -0.25), strict=True):
        found = {at + shift: _percent(table, _student(teacher, how)) for at, how in enumerate(order)}
        _dots(axes, {at: point for at, point in found.items() if point}, teacher)
    for condition, style, color, name in (
        (_student(HARD, PLAIN), "-", drawing.HARD, "ε=0, T=4"),
        (_student(HARD, BEST_T), "--", drawing.HARD, "ε=0, best T"),
        (OF_LABELS, ":", _GREY, "labels"),
    ):
        if found := _percent(table, condition):
            axes.axvline(found.mean, color=color, linestyle=style, linewidth=1.2, label=name, zorder=1)
    axes.set_yticks(range(len(order)), [_ROWS[how] for how in order])
    axes.set_ylim(-0.5, len(order) - 0.5)
    axes.margins(x=0.04)
    axes.set_xlabel("test accuracy of the student, %")
    drawing.open_frame(axes, grid="x")
    drawing.legend_below(figure)
    return figure


def _dots(axes: Axes, points: Mapping[float, Interval], teacher: str) -> None:
    """Means with horizontal intervals, each at its height."""
    if points:
        color, marker = _LOOKS[teacher]
        axes.errorbar(
            [found.mean for found in points.values()],
            list(points),
            xerr=[drawing.half_width(found) for found in points.values()],
            color=color,
            marker=marker,
            linestyle="none",
            markersize=6,
            elinewidth=1.4,
            capsize=2.5,
            label=f"student of {teacher.removeprefix('teacher ')}",
        )


def _calibration(table: Table) -> Figure:
    """How calibrated the teacher is whose student is good."""
    figure = drawing.new_figure(
        4.6,
        "What a remedy costs in calibration: ECE of the teacher (test set, 15 bins, not scaled) against the test "
        "accuracy of its student, means over seeds with 95 % intervals. Filled: student at the T that held-out "
        "images choose; hollow: at T=4, which moves the student and leaves the teacher where it is. A line "
        "follows a teacher's checkpoints, numbered by the fifths of its training, to its end: its students are at "
        "T=4. Best is above on the left.",
    )
    axes = figure.subplots()
    for teacher in TEACHERS:
        _along_training(axes, table, teacher)
        ece = _percent(table, teacher, "ece")
        plain, best = (_percent(table, _student(teacher, how)) for how in (PLAIN, BEST_T))
        if ece and best:
            _cross(axes, ece, best, teacher, markersize=7, label=f"{teacher}, best T")
        if ece and plain:
            _hollow(axes, ece, plain, teacher, markersize=7)
    if not axes.has_data():
        drawing.nothing(axes)
        return figure
    axes.set_xlabel("ECE of the teacher, %")
    axes.set_ylabel("test accuracy of the student, %")
    drawing.open_frame(axes)
    drawing.legend_below(figure)
    return figure


def _along_training(axes: Axes, table: Table, teacher: str) -> None:
    """The checkpoints of a teacher and their students at T=4, each with its number, as far as there are any."""
    color, path = _LOOKS[teacher][0], []
    for how, part in sorted(_CHECKPOINTS.items(), key=lambda at: at[1]):
        ece, found = _percent(table, teacher, f"ece_part{part}"), _percent(table, _student(teacher, how))
        if not ece or not found:
            continue
        path.append((ece.mean, found.mean))
        if part < PARTS:  # the end is drawn as the teacher that it is
            _cross(axes, ece, found, teacher, markersize=0, alpha=0.5)
            _hollow(axes, ece, found, teacher, markersize=5)
            axes.annotate(str(part), path[-1], xytext=(5, 5), textcoords="offset points", color=color)
    if len(path) > 1:
        name = f"{teacher}, checkpoints at T=4"
        axes.plot(*zip(*path, strict=True), color=color, linewidth=1, alpha=0.6, zorder=1, label=name)


def _cross(axes: Axes, x: Interval, y: Interval, teacher: str, **look: Any) -> None:
    """A point with its intervals in both directions."""
    color, marker = _LOOKS[teacher]
    bars = {"xerr": drawing.half_width(x), "yerr": drawing.half_width(y)}
    axes.errorbar(x.mean, y.mean, **bars, color=color, marker=marker, linestyle="none", elinewidth=1.2, **look)


def _hollow(axes: Axes, x: Interval, y: Interval, teacher: str, markersize: int) -> None:
    """A point without intervals."""
    color, marker = _LOOKS[teacher]
    axes.plot(x.mean, y.mean, marker, color=color, markersize=markersize, markerfacecolor="white", zorder=3)


def _by_temperature(table: Table) -> Figure:
    """Accuracy of the students of each teacher over temperature."""
    figure = drawing.new_figure(
        4.2,
        "Test accuracy of students of few images against the temperature of their soft targets, for three "
        "teachers: means over seeds with 95 % intervals. The loss is plain distillation at T on both sides. "
        "Dotted: students of the labels of the same images.",
    )
    axes = figure.subplots()
    for index, teacher in enumerate(TEACHERS):
        color, marker = _LOOKS[teacher]
        points = [
            (1.04 ** (index - 1) * temperature, found)
            for how, temperature in _TEMPERED.items()
            if (found := _percent(table, _student(teacher, how)))
        ]
        if points:
            axes.errorbar(
                [at for at, _ in points],
                [found.mean for _, found in points],
                [drawing.half_width(found) for _, found in points],
                color=color,
                marker=marker,
                markersize=5,
                linewidth=1.6,
                elinewidth=1.4,
                capsize=2.5,
                label=f"students of {teacher}",
            )
    if found := _percent(table, OF_LABELS):
        half = drawing.half_width(found)
        axes.axhline(found.mean, color=_GREY, linestyle=":", linewidth=1.6, label=OF_LABELS)
        axes.axhspan(found.mean - half, found.mean + half, color=_GREY, alpha=0.1, linewidth=0)
    if not axes.has_data():
        drawing.nothing(axes)
        return figure
    axes.set_xscale("log", base=2)
    axes.set_xticks(TEMPERATURES, [f"{temperature:g}" for temperature in TEMPERATURES])
    axes.minorticks_off()
    axes.set_xlabel("temperature T")
    axes.set_ylabel("test accuracy of the student, %")
    drawing.open_frame(axes)
    drawing.legend_below(figure)
    return figure


def _percent(table: Table, condition: str, measure: str = "accuracy") -> Interval | None:
    """Mean over seeds of a share, in %, with its interval; None where there is no run."""
    values = table.by_seed(condition, measure).values()
    return interval(100 * value for value in values) if values else None
