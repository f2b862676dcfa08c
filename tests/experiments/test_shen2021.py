"""Teachers and students at T = 1: what they differ in, what is claimed of them, and how it is drawn."""

import pytest

from distill.config import KnowledgeProbe, LossConfig, StudentConfig, TeacherConfig
from distill.reports.experiment import Label, Table
from distill.store.key import key
from experiments import chandrasegaran2022, drawing, shen2021
from experiments.conditions import teacher_of
from experiments.pure_distillation import KINDS, SMOOTHINGS, of_labels, student_of
from experiments.shen2021 import CLAIMS, HARD, PAPER, SMOOTHED, VARIANCES

SCALES = "smoke", "quick", "short", "paper"
DATA = "digits", "fashion-mnist", "cifar10", "imagefolder:birds"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_students_of_labels_are_distilled_ones_without_a_teacher(scale, data):
    runs = shen2021.runs(scale, data)
    for label, config in runs.items():
        if "of labels" not in label.condition:
            continue
        assert isinstance(config, StudentConfig)
        assert config.loss == LossConfig(alpha=0)
        assert config.cache is None
        teacher = runs[Label(HARD, label.seed)]
        assert config.augment == teacher.augment, "they see what the teacher sees"
        kind = label.condition.split()[0]
        for smoothing in SMOOTHINGS:
            student = runs[Label(student_of(kind, smoothing, 1), label.seed)]
            assert isinstance(student, StudentConfig)
            assert student.loss == LossConfig(alpha=1, temperature=1)
            assert student.replace(cache=None, loss=config.loss, augment=config.augment) == config
    kinds = {label.condition for label in runs if "of labels" in label.condition}
    assert kinds == set(map(of_labels, KINDS))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_networks_are_shared_with_the_other_paper(scale, data):
    shared = chandrasegaran2022.runs(scale, data)
    mine = {label: run for label, run in shen2021.runs(scale, data).items() if "labels" not in label.condition}
    assert mine
    assert all(key(shared[label]) == key(config) for label, config in mine.items())


def test_teachers_differ_in_smoothing_alone_and_are_probed():
    runs = shen2021.runs("quick", "fashion-mnist")
    for seed in range(5):
        hard, smoothed = (runs[Label(teacher, seed)] for teacher in (HARD, SMOOTHED))
        assert isinstance(hard, TeacherConfig)
        assert smoothed == hard.with_loss(smoothing=0.1, smoothing_convention="uniform")
    assert shen2021.probes("quick", "fashion-mnist") == (KnowledgeProbe(teachers_only=True),)


def _printed(data: str) -> dict[tuple[str, str], float]:
    """(Measure, condition) here → what they print of it on one data set, of Table 2 where both tables have it."""
    found: dict[tuple[str, str], float] = {}
    for one in PAPER:
        if f" on {data}" in one.source and one.measure and one.condition:
            assert isinstance(one.value, float)
            found[one.measure, one.condition] = one.value
        # Table 2 has no student of labels; Table 1 has the same networks, trained from labels.
        for net, kind in {"ResNet-18": "narrow", "ResNet-50": "wide"}.items():
            if one.source == f"Shen 2021, Table 1: {net} on {data}, ε=0":
                assert isinstance(one.value, float)
                found["accuracy", of_labels(kind)] = one.value
    return found


@pytest.mark.parametrize(
    ("data", "not_printed"),
    [("ImageNet", set()), ("CUB", {"variance-test", "variance-training", "labels-narrow", "labels-wide"})],
)
def test_a_claim_is_what_their_tables_say(data, not_printed):
    printed, left_out = _printed(data), set()
    for claim in CLAIMS:
        ours, other = (printed.get((claim.measure, condition)) for condition in (claim.condition, claim.versus))
        if ours is None or other is None:
            left_out.add(claim.id)
        else:
            assert ours < other if claim.direction == "lower" else ours > other, claim.id
    assert left_out == not_printed


def test_published_numbers_are_shares_and_name_what_they_are():
    assert len({(one.source, one.measure) for one in PAPER}) == len(PAPER)
    for one in PAPER:
        assert isinstance(one.value, float)
        assert 0 < one.value < 1
        assert (one.condition is None) == (one.measure is None)
        assert one.half_width is None or "Table 2" in one.source
        assert (one.measure in VARIANCES.values()) == ("1 - S" in one.source and one.measure is not None)
    both_tables = {one.condition for one in PAPER} - {None}
    assert both_tables == {HARD, SMOOTHED, *(student_of(kind, e, 1) for kind in KINDS for e in SMOOTHINGS)}
    of_r50 = {one.measure: one.value for one in PAPER if one.condition == SMOOTHED and "Table 1" in one.source}
    assert of_r50 == {"accuracy": 0.7613, "aggregated_variance": 0.3106, "aggregated_variance_train": 0.3106}
    (student,) = (one for one in PAPER if one.source.endswith("ResNet-50 on ImageNet, student of ε=0.1"))
    assert (student.value, student.half_width) == (0.77052, 0.0003)
    (binary,) = (one for one in PAPER if "binary" in one.source and one.source.endswith("ε=0.1"))
    assert binary.value == 0.63108


def test_smoothing_lowers_the_variance_of_all_eight_networks_that_they_print_with_it():
    found = {one.source: one.value for one in PAPER if "Table 1" in one.source and "1 - S" in one.source}
    smoothed = [name for name in found if "ε=0.1:" in name]
    assert (len(found), len(smoothed)) == (18, 8)
    for name in smoothed:
        lower, higher = found[name], found[name.replace("ε=0.1:", "ε=0:")]
        assert isinstance(lower, float)
        assert isinstance(higher, float)
        assert lower < higher, name


def measured(seeds: int = 3) -> Table:
    table = Table()
    levels = {"labels": 0.7, "ε=0": 0.72, "ε=0.1": 0.74}
    for label in shen2021.runs("quick", "fashion-mnist"):
        if label.seed < seeds:
            level = levels["labels" if "labels" in label.condition else f"ε={drawing.smoothing(label.condition):g}"]
            spread = 0.01 * label.seed
            table.values[label] = {
                "accuracy": level + spread,
                "aggregated_variance": 1 - level + spread,
                "aggregated_variance_train": 0.5 - level / 2 + spread,
            }
    return table


def _joined(axes) -> list[tuple[float, ...]]:
    lines = [line for line in axes.lines if line.get_color() == "#999999"]
    return [tuple(map(float, line.get_ydata())) for line in lines]


def test_the_two_teachers_of_a_seed_are_joined():
    axes = shen2021.draw(measured())["stability"].axes
    assert [panel.get_title() for panel in axes] == [
        "1 - S, test images",
        "1 - S, training images",
        "test accuracy, %",
    ]
    expected = ((0.28, 0.26, 0.01), (0.14, 0.13, 0.01), (72, 74, 1))
    for panel, (hard, smoothed, step) in zip(axes, expected, strict=True):
        assert _joined(panel) == [pytest.approx((hard + step * s, smoothed + step * s)) for s in range(3)]
        means = [float(container.lines[0].get_ydata()[0]) for container in panel.containers]
        assert means == pytest.approx([hard + step, smoothed + step])
        assert [tick.get_text() for tick in panel.get_xticklabels()] == ["ε=0", "ε=0.1"]


def test_three_students_of_each_kind():
    axes = shen2021.draw(measured())["students"].axes
    assert [panel.get_title() for panel in axes] == ["narrow students", "wide students"]
    for panel in axes:
        means = [float(container.lines[0].get_ydata()[0]) for container in panel.containers]
        assert means == pytest.approx([71, 73, 75])
        steps = [(70 + s, 72 + s) for s in range(3)] + [(72 + s, 74 + s) for s in range(3)]
        assert _joined(panel) == [pytest.approx(step) for step in steps]


@pytest.mark.parametrize("seeds", [0, 1, 2])
@pytest.mark.parametrize("missing", ["nothing", "narrow", "teacher", "ε=0.1"])
def test_draws_what_is_there(seeds, missing):
    table = measured(seeds)
    for label in list(table.values):
        if missing in label.condition:
            del table.values[label]
    for figure in shen2021.draw(table).values():
        figure.canvas.draw()
        assert figure.get_label().endswith(".")


def test_draws_a_report_without_the_probe():
    table = measured()
    for values in table.values.values():
        del values["aggregated_variance_train"]
    panels = shen2021.draw(table)["stability"].axes
    assert [bool(panel.containers) for panel in panels] == [True, False, True]
    assert teacher_of(0.1) == SMOOTHED
