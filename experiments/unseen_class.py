"""What does a teacher say about a class that its student never sees? Every class left out in turn, and pairs only.

Repeats on other data two experiments of section 3 of Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a
Neural Network", and asks what label smoothing does to them. A class is left out of the transfer set: what a
student knows of it came with the soft targets of other images. Or only two classes are in it, and the student is
asked about all. The biases of such a student were fitted to its transfer set, so that it answers the missing
classes too seldom; one shift of the bias corrects that. Hinton et al. found: without 3s, 133 of 1,010 threes are
wrong, and 14 after the shift; with 7s and 8s only, 47.3 % of all digits, and 13.2 % after it.

Per seed: a teacher without smoothing and one with ε=0.1; on every transfer set, a student of each at temperatures
1, 4 and 16, and a student of labels. The students of a seed differ in targets and transfer set alone. The student
of labels is the control: an image that fits none of its classes may give it no large logit, so that the shift alone
finds images of a class of which nobody told it. What a student of a teacher has above it, class by class, is listed
as "…, over labels".

What departs from the paper, and why:

- the shift makes the class, or the two classes together, be answered as often as they occur in the training data,
  unseen classes included. It is fitted to the test images, without their labels. Hinton et al. chose theirs by the
  errors on the test set (+3.5, and −7.6), which is the best that any shift can do.
- of a student of two classes we also measure how well it tells the classes apart that it never saw, when it may
  answer only those. No shift is needed for that, and chance is one in eight.
- at `quick`, 10,000 images of Fashion-MNIST in place of MNIST; a convolutional teacher, and students of one hidden
  layer of 256 units (theirs had 1200-1200 and 800-800); 10 epochs. Students of two classes get as many steps as the
  others, so they see each image five times as often.
- students of teachers learn from soft targets alone. The temperature that Hinton et al. used here we do not know;
  it was 20 in the experiment before, where labels counted too. We print their numbers beside T=16.
- on MNIST at `short` and `paper`: all 60,000 digits, 3 seeds, the two teachers without dropout of section 4
  (`mnist_distillation.py`; at `paper` for 100 epochs) and its students of 800-800 units. Hinton's had dropout. At
  `short`, 20 epochs, T = 4 and 16, and of the pairs only his.
- their two classes, 7 and 8, are sneakers and bags here; 2 and 4 are pullovers and coats, which look alike. Claims
  on pairs are on 7 and 8 alone.

The numbers are of the test set, on which nothing but the shift was fitted.

Cost at `quick` on two CPU cores: 465 networks, 13 minutes while other work shared the cores, without the 10
teachers, which are those of Figure 5. On MNIST itself: `--data mnist --scale short`, 186 networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from distill.config import StudentConfig, TeacherConfig
from distill.metrics.measures import Measure, Topic
from distill.reports.experiment import Claim, Label, Published, Runs, Scale, Table
from experiments import mnist_distillation
from experiments.base import DATA_OF_FIGURES, Setting, num_classes, setting_of_figures
from experiments.conditions import (
    OF_LABELS,
    caches,
    claims,
    distilled,
    labelled,
    named,
    never_seen,
    smoothed,
    student_of,
    teacher_of,
)

SMOOTHINGS = (0.0, 0.1)
TEMPERATURES = (1.0, 4.0, 16.0)
PAIRS = ((7, 8), (2, 4))
"""Pairs: Hinton's 7s and 8s, on Fashion-MNIST sneakers and bags; and pullovers and coats, which look alike."""


def distilled_of(smoothing: float, temperature: float, pair: tuple[int, int] | None = None) -> str:
    """Name a student of a teacher; of a pair, if it saw these two classes only."""
    return student_of(smoothing, temperature) + only(pair)


def of_labels(pair: tuple[int, int] | None = None) -> str:
    """Name a student of labels; of a pair, if it saw these two classes only."""
    return OF_LABELS + only(pair)


def only(pair: tuple[int, int] | None) -> str:
    """Say which classes a student saw, if not all."""
    return f", only {pair[0]} and {pair[1]}" if pair else ""


HINTONS = PAIRS[0]
HARD, SMOOTHED = SMOOTHINGS
OVER_LABELS = {"unseen_recall_corrected": "unseen_recall_over_labels", "unseen_auc": "unseen_auc_over_labels"}
"""Measure → name of its excess over the student of labels."""

DATA = DATA_OF_FIGURES
_ABOVE_LABELS = Topic("A class never seen: what exceeds the student of labels")
MEASURES = (
    Measure("unseen_recall_over_labels", "corrected recall", "points", 1, _ABOVE_LABELS, "unseen class"),
    Measure("unseen_auc_over_labels", "AUC", topic=_ABOVE_LABELS, of="unseen class"),
)
_HINTON = "Hinton 2015, section 3 (MNIST)"
# fmt: off
PAPER = [
    Published(f"{_HINTON}: recall of 3, never seen (133 of 1,010 wrong)", 0.868, None, distilled_of(HARD, 16),
              "unseen_recall"),
    Published(f"{_HINTON}: the same after a shift of its bias by 3.5 (14 wrong)", 0.986, None,
              distilled_of(HARD, 16), "unseen_recall_corrected"),
    Published(f"{_HINTON}: accuracy of a student of 7 and 8 only (47.3 % errors)", 0.527, None,
              distilled_of(HARD, 16, HINTONS), "accuracy"),
    Published(f"{_HINTON}: the same after a shift of both biases by 7.6 (13.2 %)", 0.868, None,
              distilled_of(HARD, 16, HINTONS), "pair_accuracy_corrected"),
]
# fmt: on


def _both(temperature: float, pair: tuple[int, int] | None = None) -> tuple[str, str]:
    """Return the students of the smoothed teacher and of the other one."""
    return distilled_of(SMOOTHED, temperature, pair), distilled_of(HARD, temperature, pair)


# fmt: off
CLAIMS = [
    *claims("told-T{:g}", "T={:g}: a student of the teacher without smoothing recognises a class it never saw "
            "better than a student of labels", "unseen_recall_corrected",
            {temperature: (distilled_of(HARD, temperature), of_labels()) for temperature in TEMPERATURES[1:]},
            "higher"),
    Claim("temperature", "a higher temperature tells more of a class never seen: T=16 against T=1, ε=0",
          "unseen_recall_corrected", distilled_of(HARD, 16), distilled_of(HARD, 1), "higher"),
    *never_seen("smoothing-T{:g}", {temperature: _both(temperature) for temperature in TEMPERATURES}),
    Claim("smoothing-auc", "T=4: nor does it rank images of that class above the others as well (AUC)",
          "unseen_auc", *_both(4), "lower"),
    Claim("pair-told", "two classes only, T=16: a student of the teacher without smoothing is more accurate on "
          "all, bias corrected, than a student of labels", "pair_accuracy_corrected",
          distilled_of(HARD, 16, HINTONS), of_labels(HINTONS), "higher"),
    *claims("pair-smoothing-T{:g}",
            "two classes only, T={:g}: a student of the smoothed teacher is less accurate on all, bias corrected",
            "pair_accuracy_corrected", {temperature: _both(temperature, HINTONS) for temperature in TEMPERATURES},
            "lower"),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    on_mnist = data == "mnist" and scale in ("short", "paper")
    few = on_mnist and scale == "short"  # to take hours, and not days
    chosen = _of_section_4(scale) if on_mnist else setting_of_figures(data, scale)
    # A set of one's own may have few classes.
    classes = num_classes(data) or max(chosen.left_out) + 1
    unseen = chosen.left_out if scale == "smoke" else range(classes)
    pairs = [pair for pair in PAIRS if max(pair) < classes][: 1 if few or scale == "smoke" else None]
    temperatures = TEMPERATURES[1:] if few else TEMPERATURES
    student = chosen.student
    if scale == "quick":
        student = student.replace(schedule=student.schedule.replace(epochs=10))
    built: Runs = {}
    for seed in range(chosen.seeds):
        taught = smoothed(chosen.teacher.replace(seed=seed), SMOOTHINGS)
        built |= labelled(named(taught), seed)
        for cls in (None, *unseen):
            each = student.replace(seed=seed, exclude_classes=() if cls is None else (cls,))
            built |= labelled(_students(each, taught, temperatures), seed, cls)
        for pair in pairs:
            excluded = tuple(cls for cls in range(classes) if cls not in pair)
            # As many steps on fewer images.
            longer = student.schedule.replace(epochs=round(student.schedule.epochs * classes / 2))
            each = student.replace(seed=seed, exclude_classes=excluded, schedule=longer)
            built |= labelled(_students(each, taught, temperatures, pair), seed)
    return built


def _of_section_4(scale: Scale) -> Setting:
    """Return the networks of section 4 on all of MNIST; its teachers without dropout are trained once for both."""
    networks = mnist_distillation.runs(scale, "mnist")
    teacher, student = networks[Label(teacher_of(HARD), 0)], networks[Label(OF_LABELS, 0)]
    assert isinstance(teacher, TeacherConfig)
    assert isinstance(student, StudentConfig)
    return Setting(teacher, student, seeds=3, left_out=())


def _students(
    student: StudentConfig,
    teachers: Mapping[float, TeacherConfig],
    temperatures: Sequence[float],
    pair: tuple[int, int] | None = None,
) -> dict[str, StudentConfig]:
    """Build a student of labels, and one of each teacher at each temperature, by condition."""
    name = partial(distilled_of, pair=pair)
    return {of_labels(pair): student} | distilled(student, caches(teachers, student), temperatures, name)


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """Return what students of teachers know of an unseen class above the student of labels, class by class.

    `unseen_recall_over_labels` is of recall after correction, `unseen_auc_over_labels` of the AUC of the margin. A
    seed is left out where a run of either side diverged: the mean over classes is then the difference of the means.
    """
    rows: dict[Label, dict[str, float]] = {}
    conditions = [distilled_of(*each) for each in product(SMOOTHINGS, TEMPERATURES)]
    for condition, (measure, name) in product(conditions, OVER_LABELS.items()):
        compared = [table.by_seed(each, measure) for each in (condition, of_labels())]
        seeds = compared[0].keys() & compared[1].keys()
        for label, values in table.values.items():
            if label.condition == condition and label.unseen is not None and label.seed in seeds:
                control = table.values[label._replace(condition=of_labels())]
                above = label._replace(condition=f"{condition}, over labels")
                rows.setdefault(above, {})[name] = values[measure] - control[measure]
    return rows


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    # Imported late: it takes its names from here.
    from experiments import unseen_class_figures

    return unseen_class_figures.draw(table)
