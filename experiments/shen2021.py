"""Is label smoothing truly incompatible with distillation? Teachers and students at T = 1.

Reproduces Tables 1 and 2 of Shen et al. 2021, "Is Label Smoothing Truly Incompatible with Knowledge Distillation:
An Empirical Study" (ICLR), in the numbers of the version under review. Müller et al. (2019) say that a smoothed
teacher loses what tells the images of one class apart, and so teaches worse. Shen et al. agree with the first half:
they print it as 1 - S, the variance of a teacher's probabilities within a class (`aggregated_variance`; S is its
stability), which smoothing lowers. They deny the second: at T = 1 the students of the smoothed teacher are the more
accurate ones, as the smoothed teachers are themselves (in seven of their eight pairs, all but Wide ResNet-50).

Per seed: a teacher of hard labels and one of ε=0.1, and of each a narrow student (their ResNet-18) and a wide one,
of the teacher's kind (their ResNet-50), that learn from its probabilities alone, without labels; and students of
labels. Which images their 1 - S is of is not known to us: ours is of the test set, and of training images beside
it. That a student beats one of labels is read off their two tables together, where the schedules may differ.

What departs from the paper: small networks (a convolutional teacher and wide student, an MLP as narrow student),
10,000 images that are shown as they are, 15 epochs of Fashion-MNIST and 10 of other images for all networks; our
ε=0.1 is spread over all classes, theirs over the others (of 10 classes, theirs would be 0.111 in our convention).
Not reproduced: that smoothing enlarges the distance between semantically similar classes, since no measure here is
of similar classes alone; that a smoothed teacher raises its student's training loss and not its error, since that
loss is against other targets and is not kept as a measure; that the teacher's accuracy is what matters, for which
two teachers are too few; long-tailed data, translation and binary networks. At `paper` a folder of images is
trained on with ResNet-50 and ResNet-18, by the schedules of Chandrasegaran et al. (2022; built by tests, not run).

Cost at `quick` on two CPU cores: 40 networks, of which 20 are those of `chandrasegaran2022`; the others took 2
minutes. Command: `distill reproduce shen2021`; on CIFAR-10 as files, `distill reproduce shen2021 --data
imagefolder:PATH`, where PATH is a folder or tar with `train/CLASS/` and `test/CLASS/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from distill.config import KnowledgeProbe
from distill.reports.experiment import Claim, Published, Runs, Scale, Table
from experiments import drawing, figures
from experiments.base import DATA_OF_FIGURES, always
from experiments.conditions import HARD, SMOOTHED, TEACHER_GAINS, between, teacher_of
from experiments.drawing import Figure
from experiments.pure_distillation import KINDS, SMOOTHINGS, of_labels, runs_at, student_of

TEMPERATURE = 1.0
VARIANCES = {"test": "aggregated_variance", "training": "aggregated_variance_train"}
"""Images that their 1 - S is measured on → name of the measure."""

REPRODUCES = "Shen et al. 2021, Tables 1 and 2"
DATA = DATA_OF_FIGURES

_TABLE1 = {
    "ResNet-18": ((0.69758, 0.3359), (0.69774, 0.3358)),
    "ResNet-50": ((0.75888, 0.3217), (0.76130, 0.3106)),
    "ResNet-101": ((0.77374, 0.3185), (0.77726, 0.3070)),
    "MobileNetV2": ((0.71878, 0.3341),),
    "DenseNet-121": ((0.74434, 0.3243),),
    "ResNeXt-50 32x4d": ((0.77618, 0.3229), (0.77774, 0.3182)),
    "Wide ResNet-50": ((0.78468, 0.3201), (0.77808, 0.3155)),
    "ResNeXt-101 32x8d": ((0.79312, 0.3177), (0.79698, 0.3116)),
    "ResNet-50, trained longer": ((0.76526, 0.3222), (0.77106, 0.3090)),
    "ResNet-50, trained longer with CutMix": ((0.76874, 0.2999), (0.77274, 0.2890)),
}
"""ImageNet: top-1 and 1 - S, without and, where it is printed, with smoothing."""
_TABLE2 = {
    "ImageNet": (
        ((0.76056, 0.00119), (0.71425, 0.00038), (0.76325, 0.00068)),
        ((0.76128, 0.00069), (0.71816, 0.00017), (0.77052, 0.00030)),
    ),
    "CUB": (
        ((0.79931, None), (0.77116, None), (0.80910, None)),
        ((0.81497, None), (0.78382, None), (0.82355, None)),
    ),
}
"""Top-1 and its ± of three runs: teacher ResNet-50, students ResNet-18 and 50; without and with smoothing."""
_STUDENTS = ("ResNet-18", "ResNet-50")
_BINARY = (0.63002, 0.63108)


def _published() -> Iterator[Published]:
    """Yield their tables; of Table 1 the teacher that corresponds to ours comes first."""
    for net in sorted(_TABLE1, key=lambda net: net != "ResNet-50"):
        for smoothing, (accuracy, variance) in zip(SMOOTHINGS, _TABLE1[net], strict=False):
            source = f"Shen 2021, Table 1: {net} on ImageNet, ε={smoothing:g}"
            if net == "ResNet-50":
                yield Published(source, accuracy, None, teacher_of(smoothing), "accuracy")
                for measure in VARIANCES.values():
                    yield Published(f"{source}: 1 - S", variance, None, teacher_of(smoothing), measure)
            else:
                yield Published(source, accuracy)
                yield Published(f"{source}: 1 - S", variance)
    for data, rows in _TABLE2.items():
        for smoothing, row in zip(SMOOTHINGS, rows, strict=True):
            ours = (teacher_of(smoothing), *(student_of(kind, smoothing, TEMPERATURE) for kind in KINDS))
            names = (f"ResNet-50 on {data}, teacher", *(f"{net} on {data}, student of" for net in _STUDENTS))
            for name, (value, half_width), condition in zip(names, row, ours, strict=True):
                source = f"Shen 2021, Table 2: {name} ε={smoothing:g}"
                yield Published(source, value, half_width, condition, "accuracy")
    for smoothing, value in zip(SMOOTHINGS, _BINARY, strict=True):
        yield Published(f"Shen 2021: binary ResNet-18 on ImageNet, student of ε={smoothing:g}", value)


def _of_students(kind: str) -> list[Claim]:
    hard, smoothed = (student_of(kind, smoothing, TEMPERATURE) for smoothing in SMOOTHINGS)
    better = f"a {kind} student of the smoothed teacher is more accurate than one of"
    return [
        *between(smoothed, hard, (f"student-{kind}", f"{better} the hard teacher", "accuracy", "higher")),
        *between(smoothed, of_labels(kind), (f"labels-{kind}", f"{better} labels", "accuracy", "higher")),
    ]


_LOWERS = "smoothing lowers the variance of the teacher's probabilities within a class (1 - S)"
CLAIMS = [
    *(
        Claim(f"variance-{of}", f"{_LOWERS}, {of} images", measure, SMOOTHED, HARD, "lower")
        for of, measure in VARIANCES.items()
    ),
    *TEACHER_GAINS,
    *(claim for kind in KINDS for claim in _of_students(kind)),
]
PAPER = list(_published())


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    return runs_at(scale, data, (TEMPERATURE,), of_labels_too=True)


probes = always(KnowledgeProbe(teachers_only=True))


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    return {"stability": _stability(table), "students": _students(table)}


def _stability(table: Table) -> Figure:
    """Draw the variance within a class, of test and of training images, and accuracy, of both teachers per seed."""
    figure = drawing.new_figure(
        3.2,
        "Teachers without and with label smoothing: the variance of their probabilities within a class (1 - S, the "
        "lower the more stable) on test and on training images, and their test accuracy. A dot per seed, the two "
        "teachers of one seed joined; beside them their mean with its 95 % interval.",
    )
    panels = (
        *((f"1 - S, {images} images", measure, 1.0) for images, measure in VARIANCES.items()),
        ("test accuracy, %", "accuracy", 100.0),
    )
    names = {teacher_of(smoothing): f"ε={smoothing:g}" for smoothing in SMOOTHINGS}
    for axes, (title, measure, scale) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        figures.paired(axes, table, names, measure, scale)
        drawing.heading(axes, title)
    return figure


def _students(table: Table) -> Figure:
    """Draw the accuracy of students of labels and of the two teachers, of both kinds."""
    figure = drawing.new_figure(
        3.6,
        "Test accuracy of students that learned from labels, from the probabilities of the teacher of hard labels, "
        "and from those of the smoothed teacher (T = 1): a dot per seed, the students of one seed joined; beside "
        "them their mean with its 95 % interval. The panels have scales of their own.",
    )
    for axes, kind in zip(figure.subplots(1, len(KINDS)), KINDS, strict=True):
        names = {of_labels(kind): "labels"} | {
            student_of(kind, smoothing, TEMPERATURE): f"teacher\nε={smoothing:g}" for smoothing in SMOOTHINGS
        }
        figures.paired(axes, table, names, "accuracy", 100)
        drawing.heading(axes, f"{kind} students")
    figure.axes[0].set_ylabel("test accuracy, %")
    return figure
