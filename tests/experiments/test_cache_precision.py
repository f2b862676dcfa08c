"""Forms of a cache: students differ in nothing but what their cache stores of the same logits."""

import pytest

from distill.config import CacheConfig, StudentConfig
from distill.reports.experiment import Label, Table
from experiments import cache_precision, dark_knowledge
from experiments.cache_precision import FORMS

CLASSES = {"digits": 10, "mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}


def form(label: Label) -> str:
    return label.condition.rsplit(", ", 1)[-1]


def caches(data: str) -> dict[str, CacheConfig]:
    """Form → cache of the first student that has it."""
    found: dict[str, CacheConfig] = {}
    for label, config in cache_precision.runs("quick", data).items():
        if isinstance(config, StudentConfig) and config.cache:
            found.setdefault(form(label), config.cache)
    return found


@pytest.mark.parametrize("data", CLASSES)
def test_forms_are_what_their_names_say(data):
    found = caches(data)
    assert tuple(found) == FORMS
    assert [found[name].dtype for name in ("float16", "float32")] == ["float16", "float32"]
    kept = {name: cache.top_k for name, cache in found.items() if cache.top_k is not None}
    assert kept == {"top-1": 1, "top-3": 3, "top-5": 5, "top-K": CLASSES[data]}
    assert all(cache.replace(dtype="float16", top_k=None) == found["float16"] for cache in found.values())


def test_data_of_an_unknown_number_of_classes_goes_without_all_of_them():
    assert tuple(caches("imagefolder:pets")) == tuple(name for name in FORMS if name != "top-K")


def test_students_differ_in_their_cache_alone():
    runs = cache_precision.runs("quick", "digits")
    for label, config in runs.items():
        if isinstance(config, StudentConfig):
            dense = runs[label._replace(condition=label.condition.replace(form(label), "float16"))]
            assert isinstance(dense, StudentConfig)
            assert config.replace(cache=dense.cache) == dense


def test_dense_students_are_those_of_dark_knowledge():
    # One store holds both experiments, and a network is trained once.
    shared = dark_knowledge.runs("quick", "fashion-mnist")
    for label, config in cache_precision.runs("quick", "fashion-mnist").items():
        if "student" not in label.condition or form(label) == "float16":
            assert shared[label._replace(condition=label.condition.removesuffix(", float16"))] == config


def measured(seeds: int = 3) -> Table:
    table = Table()
    for label in cache_precision.runs("quick", "digits"):
        if label.seed < seeds:
            value = 0.8 + 0.01 * label.seed
            table.values[label] = {"accuracy": value, "interclass_variance_relative": 1 - value}
            if "student" in label.condition:
                table.values[label]["cache_bytes_per_view"] = 8.0 + 4 * FORMS.index(form(label))
    return table


def test_forms_stand_in_order_with_their_bytes():
    panels = cache_precision.draw(measured())["stored_form"].axes
    assert len(panels) == 4
    for axes in panels[2:]:
        assert [text.get_text() for text in axes.get_xticklabels()] == [
            f"{name}\n{8 + 4 * place} B" for place, name in enumerate(FORMS)
        ]
    for axes in panels:
        for teacher in axes.containers:
            assert list(teacher.lines[0].get_xdata()) == pytest.approx(range(len(FORMS)), abs=0.1)


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_draws_what_is_there(seeds):
    table = measured(seeds)
    for measures in table.values.values():
        measures.pop("cache_bytes_per_view", None)
    figure = cache_precision.draw(table)["stored_form"]
    figure.canvas.draw()
    assert figure.get_label().endswith(".")
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == list(FORMS)
