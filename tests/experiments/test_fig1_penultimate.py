"""Figure 1: which classes, and pictures whose axes can be compared."""

import pytest

from distill.config import TeacherConfig
from distill.reports.experiment import Label, Table
from experiments import dark_knowledge, drawing, fig1_penultimate
from experiments.base import setting_of_figures

# As https://www.cs.toronto.edu/~kriz/cifar.html lists them, by superclass. The labels are in alphabetical order.
_BY_SUPERCLASS = """
beaver dolphin otter seal whale aquarium_fish flatfish ray shark trout orchid poppy rose sunflower tulip
bottle bowl can cup plate apple mushroom orange pear sweet_pepper clock keyboard lamp telephone television
bed chair couch table wardrobe bee beetle butterfly caterpillar cockroach bear leopard lion tiger wolf
bridge castle house road skyscraper cloud forest mountain plain sea camel cattle chimpanzee elephant kangaroo
fox porcupine possum raccoon skunk crab lobster snail spider worm baby boy girl man woman
crocodile dinosaur lizard snake turtle hamster mouse rabbit shrew squirrel
maple_tree oak_tree palm_tree pine_tree willow_tree bicycle bus motorcycle pickup_truck train
lawn_mower rocket streetcar tank tractor
"""
CIFAR100 = _BY_SUPERCLASS.split()
SPLITS = ("train", "held_out")


def test_the_classes_of_the_paper_and_those_that_may_have_been_plotted():
    alphabetical = sorted(CIFAR100)
    assert len(set(alphabetical)) == 100
    (probe,) = fig1_penultimate.probes("paper", "cifar100")
    literal, named = [[alphabetical[cls] for cls in triple] for triple in probe.triples]
    assert literal == ["apple", "aquarium_fish", "baby"]
    assert named == CIFAR100[:3] == ["beaver", "dolphin", "otter"]
    assert probe.per_class == 100


def test_similar_classes_where_a_data_set_has_them():
    from torchvision.datasets import FashionMNIST

    (probe,) = fig1_penultimate.probes("quick", "fashion-mnist")
    assert [FashionMNIST.classes[cls] for cls in probe.triples[1]] == ["T-shirt/top", "Shirt", "Sneaker"]
    (probe,) = fig1_penultimate.probes("quick", "imagefolder:somewhere")
    assert probe.triples == ((0, 1, 2),)


@pytest.mark.parametrize("scale", ["smoke", "quick", "short", "paper"])
def test_teachers_are_those_of_the_other_figures(scale):
    data = fig1_penultimate.DATA[scale]
    runs = fig1_penultimate.runs(scale, data)
    shared = setting_of_figures(data, scale)
    assert {label.condition for label in runs} == {dark_knowledge.HARD, dark_knowledge.SMOOTHED}
    assert {label.seed for label in runs} == set(range(shared.seeds))
    for label, config in runs.items():
        assert isinstance(config, TeacherConfig)
        assert config == shared.teacher.replace(seed=label.seed).with_loss(
            smoothing=drawing.smoothing(label.condition)
        )


def measured(seeds: int = 3, triples: int = 2) -> Table:
    """Templates around the origin; points of class c at its template, the second net at half the scale."""
    corners = [(2.0, 0.0), (-1.0, 2.0), (-1.0, -2.0)]
    table = Table(classes=("cat", "dog", "ship", "truck"))
    for seed in range(seeds):
        for place, condition in enumerate((fig1_penultimate.HARD, fig1_penultimate.SMOOTHED)):
            size = 10 / (1 + place)
            values, curves = {}, {}
            for suffix in ("", "_2")[:triples]:
                curves[f"plane_classes{suffix}"] = [0.0, 1.0, 3.0]
                curves[f"plane_template_x{suffix}"] = [x for x, _ in corners]
                curves[f"plane_template_y{suffix}"] = [y for _, y in corners]
                for split in SPLITS:
                    curves[f"plane_{split}_x{suffix}"] = [size * (x + seed) for x, _ in corners * 2]
                    curves[f"plane_{split}_y{suffix}"] = [size * y for _, y in corners * 2]
                    curves[f"plane_{split}_class{suffix}"] = [0.0, 1.0, 2.0] * 2
                    for measure in ("compactness", "scatter", "imbalance", "irregularity"):
                        values[f"{measure}_{split}{suffix}"] = 0.1 + 0.01 * seed
                    values[f"class_distance_{split}{suffix}"] = size
            table.values[Label(condition, seed)] = values
            table.curves[Label(condition, seed)] = curves
    return table


def points(axes) -> list[list[float]]:
    """Of the first class."""
    return axes.collections[0].get_offsets().tolist()


def test_panels_share_their_axes_and_differ_in_the_unit():
    figures = fig1_penultimate.draw(measured())
    scaled, raw = figures["projections"].axes, figures["projections_unscaled"].axes
    assert len(scaled) == len(raw) == 8
    assert [axes.get_title() for axes in scaled[:4]] == [
        "ε=0, train",
        "ε=0, held-out",
        "ε=0.1, train",
        "ε=0.1, held-out",
    ]
    for panels in (scaled, raw):
        assert len({(axes.get_xlim(), axes.get_ylim()) for axes in panels[:4]}) == 1
        low, high = panels[0].get_xlim()
        assert panels[0].get_ylim()[1] - panels[0].get_ylim()[0] == pytest.approx(high - low)
        for axes in panels:
            for collection in axes.collections:
                for x, y in collection.get_offsets():
                    assert axes.get_xlim()[0] < x < axes.get_xlim()[1]
                    assert axes.get_ylim()[0] < y < axes.get_ylim()[1]
    # Of seed 0: scaled, both nets show the same; as they are, the smoothed one is half as large.
    assert points(scaled[0]) == points(scaled[2]) == [[2, 0], [2, 0]]
    assert points(raw[0]) == [[20, 0], [20, 0]]
    assert points(raw[2]) == [[10, 0], [10, 0]]
    assert scaled[0].get_xlabel() == "compactness\n0.110 ± 0.025"
    assert raw[2].get_xlabel() == "class distance\n5"


def test_classes_are_named_in_the_order_of_the_triple():
    figure = fig1_penultimate.draw(measured(triples=1))["projections"]
    (part,) = figure.subfigs
    assert [text.get_text() for text in part.legends[0].get_texts()] == ["cat", "dog", "truck"]


def test_numbers_stand_at_their_split():
    axes = fig1_penultimate.draw(measured())["numbers"].axes
    assert [panel.get_title() for panel in axes[:4]] == ["compactness", "scatter", "imbalance", "irregularity"]
    hard, smoothed = axes[0].containers
    assert list(hard.lines[0].get_xdata()) == pytest.approx([-0.12, 0.88])
    assert list(smoothed.lines[0].get_ydata()) == pytest.approx([0.11, 0.11])
    assert hard.lines[0].get_color() == drawing.HARD


@pytest.mark.parametrize(("seeds", "triples"), [(0, 1), (1, 1), (2, 2)])
def test_draws_what_is_there(seeds, triples):
    table = measured(seeds, triples)
    for figure in fig1_penultimate.draw(table).values():
        figure.canvas.draw()
        assert figure.get_label().endswith(".")
    for label in list(table.values):  # a network that diverged
        if label.condition == fig1_penultimate.SMOOTHED:
            table.diverged[label] = "accuracy at chance"
            del table.values[label], table.curves[label]
    for figure in fig1_penultimate.draw(table).values():
        figure.canvas.draw()


def test_claims_and_published_entries_are_of_measures_that_the_probe_gives():
    names = {name for values in measured().values.values() for name in values}
    assert {claim.measure for claim in fig1_penultimate.CLAIMS} < names
    assert {found.measure for found in fig1_penultimate.PAPER} < names
    assert all(found.value is None for found in fig1_penultimate.PAPER), "the paper prints no number"
    assert len({found.source for found in fig1_penultimate.PAPER}) == len(fig1_penultimate.PAPER)
