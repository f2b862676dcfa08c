"""Students of two teachers at four temperatures: what they differ in, what is claimed, and what is derived."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distill.cli.main import main
from distill.config import AugmentConfig, CacheConfig, LossConfig, OptimConfig, StudentConfig, TeacherConfig
from distill.data.views.program import ProgramViews
from distill.reports.experiment import Label, Table
from experiments import chandrasegaran2022 as experiment
from experiments import drawing
from experiments.chandrasegaran2022 import CLAIMS, PAPER, TEMPERATURES, derived
from experiments.conditions import teacher_of
from experiments.pure_distillation import KINDS, SMOOTHINGS, student_of

SCALES = "smoke", "quick", "short", "paper"
DATA = "digits", "fashion-mnist", "cifar10", "imagefolder:birds"
STUDENTS = [student_of(kind, e, t) for kind in KINDS for e in SMOOTHINGS for t in TEMPERATURES]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_networks_of_a_seed_differ_in_smoothing_and_temperature_alone(scale, data):
    runs = experiment.runs(scale, data)
    seeds = {label.seed for label in runs}
    assert seeds == set(range(len(seeds)))
    assert {label.condition for label in runs} == {*STUDENTS, *map(teacher_of, SMOOTHINGS)}
    for seed in seeds:
        hard, smoothed = (runs[Label(teacher_of(smoothing), seed)] for smoothing in SMOOTHINGS)
        assert isinstance(hard, TeacherConfig)
        assert (hard.seed, hard.loss.smoothing) == (seed, 0)
        assert smoothed == hard.with_loss(smoothing=0.1)
        for kind in KINDS:
            plain = set()
            for smoothing, teacher in zip(SMOOTHINGS, (hard, smoothed), strict=True):
                for temperature in TEMPERATURES:
                    student = runs[Label(student_of(kind, smoothing, temperature), seed)]
                    assert isinstance(student, StudentConfig)
                    assert student.loss == LossConfig(alpha=1, temperature=temperature, temperature_on="both")
                    assert student.cache is not None
                    assert student.cache.teacher == teacher
                    cache = student.cache.replace(teacher=hard)
                    plain.add(student.replace(cache=cache, loss=LossConfig()).model_dump_json())
            assert len(plain) == 1


@pytest.mark.parametrize("data", ["fashion-mnist", "cifar10", "imagefolder:birds"])
def test_at_quick_all_see_the_same_images_as_they_are(data):
    for config in experiment.runs("quick", data).values():
        assert config.augment == AugmentConfig()
        assert config.data.limit == 10_000
        if isinstance(config, StudentConfig):
            assert config.cache is not None
            assert (config.cache.views, config.cache.augment) == (1, AugmentConfig())


def test_a_folder_at_paper_scale_is_trained_on_as_theirs():
    runs = experiment.runs("paper", "imagefolder:birds")
    nets = {"teacher": "resnet50", "narrow": "resnet18", "wide": "resnet50"}
    for label, config in runs.items():
        who = label.condition.split()[0]
        epochs, decay = (90, (30, 60)) if who == "teacher" else (200, (80, 160))
        assert config.model.name == f"torchvision:{nets[who]}"
        assert config.optim == OptimConfig(name="momentum", lr=0.1, momentum=0.9, weight_decay=1e-4, clip=None)
        schedule = config.schedule
        assert (schedule.name, schedule.epochs, schedule.batch_size) == ("step", epochs, 256)
        assert (schedule.decay_epochs, schedule.decay_rate, schedule.warmup_epochs) == (decay, 0.1, 0)
        if isinstance(config, StudentConfig):
            assert config.cache is not None
            (teacher,) = config.cache.teachers
            assert config.cache == CacheConfig(
                teacher=teacher, transfer_set=config.data, augment=teacher.augment, views=16
            )


def test_a_folder_is_planned_at_paper_scale(tmp_path, capsys):
    for split, count in (("train", 3), ("test", 1)):
        for name in ("crow", "wren"):
            (tmp_path / "birds" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (30, 40)).save(tmp_path / "birds" / split / name / f"{number}.png")
    data = f"imagefolder:{tmp_path / 'birds'}"
    main(["plan", "chandrasegaran2022", "--scale", "paper", "--data", data, "--store", str(tmp_path / "store")])
    counts = {line.split()[0]: line.split()[1:3] for line in capsys.readouterr().out.splitlines()}
    assert [counts[stage] for stage in ("teacher", "cache", "student")] == [["0", "6"], ["0", "6"], ["0", "48"]]


def _views(image: torch.Tensor, count: int) -> torch.Tensor:
    teacher = experiment.runs("paper", "imagefolder:birds")[Label(teacher_of(0), 0)]
    program = ProgramViews(image[None], teacher.augment, seed=0)
    assert program.pixels(torch.tensor([0]), 0).dtype == torch.uint8
    return torch.cat([program.pixels(torch.tensor([0]), view) for view in range(count)])


def test_its_views_are_crops_and_flips_and_leave_colours_alone():
    plain = torch.tensor([10, 90, 200], dtype=torch.uint8)[:, None, None].expand(3, 224, 224).contiguous()
    assert torch.equal(_views(plain, 8), plain.expand(8, 3, 224, 224))
    ramp = torch.arange(224, dtype=torch.uint8).expand(3, 224, 224).contiguous()
    views = _views(ramp, 40).int()
    across = views[:, 0, 112, -1] - views[:, 0, 112, 0]
    assert 8 < int((across < 0).sum()) < 32, "a fair flip: 40 views, three standard deviations and more"
    # Sides of crops are the root of 8 to 100 % of the area, stretched by up to 4/3.
    widths = across.abs() / 224
    assert 0.2 < widths.min() < 0.6 < widths.max() <= 1


def _published(data: str) -> dict[str, float]:
    """Condition of ours → what they print of it on one data set."""
    found: dict[str, float] = {}
    for one in PAPER:
        if one.condition and f" on {data}," in one.source:
            assert isinstance(one.value, float)
            found[one.condition] = one.value
    return found


@pytest.mark.parametrize("data", ["ImageNet", "CUB"])
def test_a_claim_is_what_their_table_says(data):
    printed = _published(data)
    assert printed.keys() == {*STUDENTS, *map(teacher_of, SMOOTHINGS)}
    values = {Label(condition, 0): {"accuracy": value} for condition, value in printed.items()}
    for found in values.values():
        # They choose on the images that they print: it is the best of four.
        found["held_out_accuracy"] = found["accuracy"]
    table = Table(values=values)
    table.values |= derived(table)
    for claim in CLAIMS:
        ours, other = (table.by_seed(name, claim.measure)[0] for name in (claim.condition, claim.versus))
        assert ours < other if claim.direction == "lower" else ours > other, claim.id


def test_no_claim_where_their_tables_disagree_or_have_it_the_other_way_round():
    claimed = {frozenset((claim.condition, claim.versus)) for claim in CLAIMS}
    for temperature in TEMPERATURES:
        hard, smoothed = (student_of("wide", smoothing, temperature) for smoothing in SMOOTHINGS)
        higher = [_published(data)[smoothed] > _published(data)[hard] for data in ("ImageNet", "CUB")]
        expected = {1.0: [True, True], 2.0: [False, True], 3.0: [True, True], 64.0: [True, False]}
        assert higher == expected[temperature]
        assert (frozenset((hard, smoothed)) in claimed) == (temperature == 1)


def test_published_numbers_are_shares_each_with_its_own_name():
    assert len({one.source for one in PAPER}) == len(PAPER) == 2 * (2 + 5 * 4 + 2 * 5)
    for one in PAPER:
        assert isinstance(one.value, float)
        assert 0 < one.value < 1
        assert one.half_width is None
        without = "MobileNetV2" in one.source or "BLEU" in one.source
        assert (one.condition is None) == (one.measure is None) == without
        if one.condition:
            assert one.source.endswith(one.condition.removeprefix("narrow ").removeprefix("wide "))
    values = {one.source.removeprefix("Chandrasegaran 2022: "): one.value for one in PAPER}
    assert values["ResNet-18 on CUB, student of ε=0.1, T=64"] == 0.67161
    assert values["ResNet-50 on ImageNet, student of ε=0, T=3"] == 0.75488
    assert values["BLEU, English-Russian, student of ε=0.1, T=2"] == 0.151


SHARES = st.integers(0, 1000).map(lambda value: value / 1000)
FOUR = st.lists(SHARES, min_size=4, max_size=4)


def students(test: list[float], held_out: list[float], seed: int = 0) -> Table:
    """Narrow students of the hard teacher, by temperature."""
    table = Table()
    for temperature, accuracy, chosen_by in zip(TEMPERATURES, test, held_out, strict=True):
        values = {"accuracy": accuracy, "held_out_accuracy": chosen_by}
        table.values[Label(student_of("narrow", 0, temperature), seed)] = values
    return table


@given(FOUR, FOUR)
def test_the_temperature_is_chosen_on_held_out_images_and_nothing_else(test, held_out):
    found = derived(students(test, held_out))
    first = held_out.index(max(held_out))
    expected = {"accuracy": test[first], "chosen_temperature": TEMPERATURES[first]}
    assert found == {
        Label("narrow students of ε=0, from T of 1 to 3", 0): {"accuracy_lost": test[0] - test[2]},
        Label("narrow student of ε=0, best T", 0): expected,
    }


def test_each_seed_chooses_for_itself_and_what_diverged_is_not_chosen():
    table = students([0.5, 0.6, 0.7, 0.8], [0.9, 0.1, 0.1, 0.1])
    table.values |= students([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.9, 0.3], seed=1).values
    lost = Label(student_of("narrow", 0, 3), 1)
    table.diverged[lost] = "accuracy at chance"
    del table.values[lost]
    found = derived(table)
    best = {label.seed: values for label, values in found.items() if "best" in label.condition}
    assert best == {
        0: {"accuracy": 0.5, "chosen_temperature": 1},
        1: {"accuracy": 0.1, "chosen_temperature": 64},
    }
    assert [label.seed for label in found if "best" not in label.condition] == [0], "T=3 has no accuracy"
    assert derived(Table()) == {}


def measured(seeds: int = 3) -> Table:
    table = Table()
    for label in experiment.runs("quick", "fashion-mnist"):
        if label.seed < seeds:
            temperature = drawing.temperature(label.condition) or 1
            accuracy = 0.8 - 0.001 * temperature + 0.01 * label.seed - 0.1 * ("narrow" in label.condition)
            table.values[label] = {"accuracy": accuracy, "held_out_accuracy": accuracy}
    table.values |= derived(table)
    return table


def test_a_panel_per_student_a_line_per_teacher():
    figure = experiment.draw(measured())["accuracy_by_temperature"]
    assert [axes.get_title() for axes in figure.axes] == ["narrow students", "wide students"]
    for axes, level in zip(figure.axes, (71, 81), strict=True):
        hard, smoothed = axes.containers
        for curve, color in ((hard, drawing.HARD), (smoothed, drawing.SMOOTHED[0])):
            line = curve.lines[0]
            assert line.get_color() == color
            assert list(line.get_xdata()) == pytest.approx(TEMPERATURES, rel=0.05)
            assert list(line.get_ydata()) == pytest.approx([level - 0.1 * at for at in TEMPERATURES])
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_label() for line in dashed] == ["teacher ε=0", "teacher ε=0.1"]
        assert [line.get_ydata()[0] for line in dashed] == pytest.approx([80.9, 80.9])


@pytest.mark.parametrize("seeds", [0, 1, 2])
@pytest.mark.parametrize("missing", ["nothing", "narrow", "teacher"])
def test_draws_what_is_there(seeds, missing):
    table = measured(seeds)
    for label in list(table.values):
        if missing in label.condition:
            del table.values[label]
    figure = experiment.draw(table)["accuracy_by_temperature"]
    figure.canvas.draw()
    assert figure.get_label().endswith(".")
