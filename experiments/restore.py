"""Can a smoothed teacher be given back its dark knowledge? Other losses, temperatures, checkpoints and MaxSup.

Where smoothing hurts (few images, T = 4), which remedy closes the gap to the teacher of hard labels, and what does
it do to the teacher's calibration? A question of our own about the remedies of others: logit standardisation (Sun
et al. 2024), DIST (Huang et al. 2022), DKD (Zhao et al. 2022), weighted soft labels (WSL, Zhou et al. 2021), a
temperature of its own for the label (ATS, Li et al. 2022), a temperature of each teacher's own (Chandrasegaran et
al. 2022 find a low one for smoothed teachers), an early checkpoint of the smoothed teacher, and, in place of
smoothing, maximum suppression (MaxSup, Zhou et al. 2025).

Per seed: teachers of hard labels, of labels smoothed by 0.1 and of MaxSup 0.1; students that see 1 % of their
teacher's images, for as many steps as if they had all, and differ in their targets and loss alone. This place was
chosen for its gap, after a look at the test accuracy of three seeds on Fashion-MNIST: the gap is no discovery, and
claims that start from it lean towards "narrowed". Students at T = 1, 2, 4 and 16 of the first two teachers are the
networks of `when_smoothing_hurts`, and no replication. All seeds share one draw of 100 images: intervals say
nothing of another 100.

Choices are made per seed on held-out images, the first of equals: a temperature of six ("best T"), a checkpoint or
the end ("best checkpoint", all at T = 4), and any of all these students ("best remedy"). The held-out set is large:
a user with 100 images would choose with more noise.

How to read the claims. They say "still less accurate than the student of the hard teacher at its best T": an
undecided claim means that no gap is seen any more (five seeds can hide a point), a contradicted one that the gap is
more than closed. A remedy that helps the hard teacher as much has restored nothing: `accuracy_gap_same_remedy` is
what is left between both teachers with one remedy, and the claims "fair-…" are about it; the one for logit
standardisation was added after its result had been seen. A loss comes with its paper's temperature, which alone may
help: compare it with "best T", the plain loss at a temperature of choice. Eight remedies are eight chances, and
intervals are not corrected for that.

Calibration is the ECE of the teacher as it is; only MaxSup and an earlier checkpoint change it. MaxSup penalises
the largest logit where smoothing penalises the label's (both against the mean logit). On an image that the teacher
gets right both are one loss, and the teachers here fit their training images, so the two may differ little.
MaxSup's paper claims that it keeps what differs within a class for features; here it is asked of logits.

What departs from the papers: soft targets alone (`alpha` = 1) for every loss, while theirs add the loss of the
labels (and DKD a warm-up). Temperatures are theirs (`REMEDIES`; for DIST its code's default). Their students see
all images, ours few; their pairs are mostly ResNets on CIFAR-100 and ImageNet, ours at `quick` a small
convolutional network and an MLP on Fashion-MNIST. Nothing is augmented at any scale. Early checkpoints are of the
hard and the smoothed teacher.

Cost at `quick` on two CPU cores: 225 networks, 20 minutes. At `smoke` one seed, and no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from distill.config import AugmentConfig, CacheConfig, LossConfig, SnapshotsProbe, TeacherConfig
from distill.metrics.measures import Measure
from distill.reports.experiment import Claim, Label, Published, Runs, Scale, Table
from experiments.base import DATA_OF_FIGURES, always, images_of, of_few, setting_of_figures
from experiments.conditions import HARD, OF_LABELS, SMOOTHED, between, claims, labelled

SMOOTHING = 0.1
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
REMEDIES = {
    "standardised": LossConfig(soft="standardised", temperature=2),
    "DIST": LossConfig(soft="dist", temperature=1),
    "DKD": LossConfig(soft="dkd", temperature=4),
    "WSL": LossConfig(soft="wsl", temperature=2),
    "decoupled temperatures": LossConfig(soft="decoupled", temperature=2, kwargs={"label_temperature": 4}),
}
"""Name of a remedy → loss of the student, at the temperature of the paper that proposes it."""
PARTS = 5
"""Number of snapshots of a teacher along its training."""
TRANSFER_SHARE = 0.01
"""Share of the teacher's images that students see."""
SUPPRESSED = f"teacher MaxSup {SMOOTHING:g}"
TEACHERS = HARD, SMOOTHED, SUPPRESSED
PLAIN = "T=4"
"""Name of plain distillation, which does nothing about smoothing."""
BEST_T, BEST_CHECKPOINT, BEST_REMEDY = "best T", "best checkpoint", "best remedy"


def student_of(teacher: str, how: str) -> str:
    """Name a student by its teacher and how it learned."""
    return f"student of {teacher.removeprefix('teacher ')}, {how}"


def _early(part: int) -> str:
    return f"{PLAIN}, checkpoint {part} of {PARTS}"


TEMPERED = {f"T={temperature:g}": temperature for temperature in TEMPERATURES}
CHECKPOINTS = {PLAIN: PARTS} | {_early(part): part for part in range(PARTS - 1, 0, -1)}
"""Name of a checkpoint → part of training. The end is first, so that of equals the last one is taken."""

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
    ("temperature", "its best T"): student_of(SMOOTHED, BEST_T),
    ("standardised", "logit standardisation"): student_of(SMOOTHED, "standardised"),
    ("dist", "DIST"): student_of(SMOOTHED, "DIST"),
    ("dkd", "DKD"): student_of(SMOOTHED, "DKD"),
    ("wsl", "WSL"): student_of(SMOOTHED, "WSL"),
    ("decoupled", "a temperature of its own for the label"): student_of(SMOOTHED, "decoupled temperatures"),
    ("checkpoint", "its best checkpoint"): student_of(SMOOTHED, BEST_CHECKPOINT),
    ("maxsup", "MaxSup in place of smoothing"): student_of(SUPPRESSED, PLAIN),
}
"""Id of a claim and the remedy in words → the student that had it."""
_NARROWS = "narrows the gap between their students: the smoothed"
_FAIR = (
    ("temperature", f"a T of each teacher's own {_NARROWS} teacher gains more from it", BEST_T),
    ("standardised", f"logit standardisation for both {_NARROWS} teacher gains more", "standardised"),
    ("checkpoint", f"a checkpoint of each teacher's own {_NARROWS} one gains more", BEST_CHECKPOINT),
)
_GAP = "T=4: a student of the smoothed teacher is less accurate than one of the hard teacher"
_VARIANCE = "MaxSup leaves the teacher more inter-class logit variance, relative to the squared gap, than smoothing"

# fmt: off
CLAIMS = [
    *between(student_of(SMOOTHED, PLAIN), student_of(HARD, PLAIN), ("gap", _GAP, "accuracy", "lower")),
    *claims("raised-{0}", "{1} raises the accuracy of the smoothed teacher's student above that at T=4", "accuracy",
            {named: (student, student_of(SMOOTHED, PLAIN)) for named, student in _REMEDIED.items()}, "higher"),
    *claims("behind-{0}", "with {1}, its student is still less accurate than the hard teacher's at its best T",
            "accuracy", {named: (student, student_of(HARD, BEST_T)) for named, student in _REMEDIED.items()},
            "lower"),
    Claim("more-than-temperature", "for the smoothed teacher, the best remedy is more accurate than the best T",
          "accuracy", student_of(SMOOTHED, BEST_REMEDY), student_of(SMOOTHED, BEST_T), "higher"),
    *claims("fair-{0}", "{1}", "accuracy_gap_same_remedy",
            {(name, says): (f"gap of {how}", f"gap of {PLAIN}") for name, says, how in _FAIR}, "lower"),
    Claim("fair-remedy", "with the best remedy of each teacher, the smoothed one's student is still less accurate",
          "accuracy", student_of(SMOOTHED, BEST_REMEDY), student_of(HARD, BEST_REMEDY), "lower"),
    *between(SUPPRESSED, HARD, ("maxsup-accuracy", "MaxSup raises the teacher's accuracy", "accuracy", "higher"),
             ("maxsup-ece", "MaxSup lowers the teacher's ECE", "ece", "lower")),
    *between(SUPPRESSED, SMOOTHED, ("maxsup-variance", _VARIANCE, "interclass_variance_relative", "higher")),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    images = images_of(data, scale)
    base = chosen.teacher.replace(data=chosen.teacher.data.replace(limit=images), augment=AugmentConfig())
    few = of_few(chosen.student, images, TRANSFER_SHARE)
    teachers = {
        HARD: base.replace(snapshots=PARTS),
        SMOOTHED: base.replace(snapshots=PARTS).with_loss(smoothing=SMOOTHING),
        SUPPRESSED: base.with_loss(smoothing=SMOOTHING, smoothing_convention="maxsup"),
    }
    built: Runs = {}
    for seed in range(chosen.seeds):
        student = few.replace(seed=seed)
        built |= labelled({OF_LABELS: student}, seed)
        for name, teacher in teachers.items():
            teacher = teacher.replace(seed=seed)
            ways = _ways(CacheConfig(teacher=teacher, transfer_set=student.data))
            students = {student_of(name, how): student.replace(cache=cache, loss=loss) for how, cache, loss in ways}
            built |= labelled({name: teacher, **students}, seed)
    return built


def _ways(cache: CacheConfig) -> Iterator[tuple[str, CacheConfig, LossConfig]]:
    """Yield how a student can learn from one teacher: name, what it reads, and its loss."""
    for temperature in TEMPERATURES:
        yield f"T={temperature:g}", cache, LossConfig(temperature=temperature)
    for name, loss in REMEDIES.items():
        yield name, cache, loss
    kept = cache.teacher.snapshots if isinstance(cache.teacher, TeacherConfig) else 0
    for part in range(1, kept):
        yield _early(part), cache.replace(snapshot=part), LossConfig(temperature=4)


probes = always(SnapshotsProbe())


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """Return what was chosen on held-out images, and the gaps that are left, per seed.

    "student of …, best T", "…, best checkpoint" and "…, best remedy": both accuracies of the student that is the
    most accurate on held-out images, and `chosen_temperature` or `chosen_checkpoint` (the last part is the end). Of
    equals that of the lower temperature, of the later checkpoint, and temperatures before losses before
    checkpoints.

    "gap of …": `accuracy_gap`, accuracy of the student of the hard teacher at T=4 less that of this one, 0 for a
    gap that is closed; `accuracy_gap_best`, the same for the hard teacher at its best T;
    `accuracy_gap_same_remedy`, for the hard teacher with the same remedy. All are shares, and left out where a
    student is missing.
    """
    rows: dict[Label, dict[str, float]] = {}
    for seed in sorted({label.seed for label in table.values}):
        for teacher in TEACHERS:
            rows |= _choices(table, teacher, seed)
        rows |= _gaps(Table({**table.values, **rows}), seed)
    return rows


def _choices(table: Table, teacher: str, seed: int) -> dict[Label, dict[str, float]]:
    """Return the students of one teacher that held-out images choose."""
    chosen = {}
    if best := _chosen(table, teacher, seed, TEMPERED):
        chosen[BEST_T] = _of(table, teacher, best, seed) | {"chosen_temperature": TEMPERED[best]}
    stopped = any(_of(table, teacher, how, seed) for how in CHECKPOINTS if how != PLAIN)
    if stopped and (best := _chosen(table, teacher, seed, CHECKPOINTS)):
        chosen[BEST_CHECKPOINT] = _of(table, teacher, best, seed) | {"chosen_checkpoint": float(CHECKPOINTS[best])}
    if best := _chosen(table, teacher, seed, (*TEMPERED, *REMEDIES, *CHECKPOINTS)):
        chosen[BEST_REMEDY] = _of(table, teacher, best, seed)
    return {Label(student_of(teacher, name), seed): measures for name, measures in chosen.items()}


def _chosen(table: Table, teacher: str, seed: int, ways: Iterable[str]) -> str | None:
    """Return the way whose student is the most accurate on held-out images, the first of equals, if any."""
    held_out = {how: student["held_out_accuracy"] for how in ways if (student := _of(table, teacher, how, seed))}
    return max(held_out, key=lambda how: held_out[how]) if held_out else None


def _of(table: Table, teacher: str, how: str, seed: int) -> dict[str, float]:
    """Return both accuracies of one student; nothing unless both are there."""
    measures = table.values.get(Label(student_of(teacher, how), seed), {})
    both = {name: measures[name] for name in ("accuracy", "held_out_accuracy") if name in measures}
    return both if len(both) == 2 else {}


_GAPS = {f"gap of {how}": (SMOOTHED, how) for how in (PLAIN, BEST_T, *REMEDIES, BEST_CHECKPOINT, BEST_REMEDY)} | {
    f"gap of {SUPPRESSED.removeprefix('teacher ')}, {how}": (SUPPRESSED, how) for how in (PLAIN, BEST_T)
}


def _gaps(table: Table, seed: int) -> dict[Label, dict[str, float]]:
    """Return how far students stay behind students of the hard teacher."""

    def accuracy(teacher: str, how: str) -> float | None:
        return table.values.get(Label(student_of(teacher, how), seed), {}).get("accuracy")

    rows = {}
    for condition, (teacher, how) in _GAPS.items():
        own = accuracy(teacher, how)
        others = {
            "accuracy_gap": accuracy(HARD, PLAIN),
            "accuracy_gap_best": accuracy(HARD, BEST_T),
            "accuracy_gap_same_remedy": accuracy(HARD, how),
        }
        gaps = {name: other - own for name, other in others.items() if own is not None and other is not None}
        if gaps:
            rows[Label(condition, seed)] = gaps
    return rows


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report, the answer first."""
    # Imported late: it takes its names from here.
    from experiments import restore_figures

    return restore_figures.draw(table)
