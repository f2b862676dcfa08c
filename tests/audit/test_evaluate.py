"""Check that each measure of an artifact has its value in its group, or a reason why it has none."""

from __future__ import annotations

import shutil

import pytest
import torch

from distill.audit import evaluate
from distill.audit.evaluate import Group, format_groups, measures_of_cache, measures_of_network
from distill.cache import LogitCache
from distill.config import AugmentConfig, EnsembleConfig, LossConfig, ModelConfig
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics.geometry import linear_cka
from distill.metrics.measures import compute, defined, of_kind
from distill.probes import knowledge
from distill.training.network import load_predictions
from tests.data import copies
from tests.probes.test_knowledge import pooled

NAMES = {each.name for each in of_kind("knowledge", "features", "teacher")}


def logit_measures(logits, labels, temperature):
    return defined(compute(of_kind("knowledge"), logits=logits, labels=labels, temperature=temperature))


def fidelity_measures(student, teacher, labels, temperature):
    given = {"student": student, "teacher": teacher, "labels": labels, "temperature": temperature}
    return defined(compute(of_kind("teacher"), **given))


@pytest.fixture
def groups(make, store, runtime):
    def groups(config, split="test", temperature=1.0) -> dict[str, Group]:
        found = measures_of_network(make(config), store, runtime, split, temperature)
        return {group.heading.split(" o")[0].split(",")[0].split(" beside")[0]: group for group in found}

    return groups


def test_all_of_a_student(student, groups, make, runtime):
    found = groups(student, temperature=2.0)
    plain, soft, against, images, alike, information = found.values()
    (logits, labels), (of_teacher, _) = (
        load_predictions(make(config), "test") for config in (student, student.cache.teacher)
    )
    assert {name: value for name, (value,) in soft.rows.items()} == logit_measures(logits, labels, 2.0)
    assert {name: value for name, (value,) in against.rows.items()} == fidelity_measures(
        logits, of_teacher, labels, 2.0
    )
    assert "T = 2" in soft.heading
    assert {"accuracy", "held_out_accuracy", "equivalent_smoothing"} <= plain.rows.keys()
    names = [name for group in (plain, soft, against) for name in group.rows]
    assert len(names) == len(set(names)), "nothing is said twice"
    assert images.columns == alike.columns == ("training", "held-out")
    assert {name for group in (soft, against, images) for name in group.rows} == NAMES

    dataset = load(student.data, runtime.data_root)
    of_both = [
        knowledge.outputs(knowledge.KnowledgeProbe(), make(config), runtime, dataset)[0]
        for config in (student, student.cache.teacher)
    ]
    expected = [linear_cka(*(seen[split].features for seen in of_both)) for split in ("train", "held_out")]
    assert alike.rows["linear_cka"] == pytest.approx(tuple(expected))
    assert "augment" in information.missing
    assert not information.rows


def test_what_a_teacher_has_not(teacher, groups):
    found = groups(teacher)
    assert found["Against its teacher"].missing == "It learned from labels."
    assert "Penultimate activations" not in found
    shifted = groups(teacher.replace(augment=AugmentConfig(pad=1)))
    information = shifted["Mutual information"]
    assert information.heading.endswith("0 and 1")
    names = {"information_final", "information_printed", "information_floor", "information_log_n"}
    assert information.rows.keys() == names
    assert information.rows["information_printed"][0] <= 0
    assert information.rows["information_final"][0] <= information.rows["information_log_n"][0]
    assert (
        groups(teacher, "held_out")["Predictions"].rows["accuracy"]
        == found["Predictions"].rows["held_out_accuracy"]
    )


def test_a_teacher_that_is_not_there(student, groups, make, store):
    make(student)
    shutil.rmtree(make(student.cache.teacher).path)
    network = store.find(student)
    assert network is not None
    assert "digits-mlp16-ls0.00-s0, is not in the store" in groups(student)["Against its teacher"].missing


def test_students_without_one_teacher(student, groups):
    own = student.cache.teacher
    both = EnsembleConfig(members=(own, own.replace(seed=1)))
    of_both = student.replace(cache=student.cache.replace(teacher=both))
    assert "not one trained network" in groups(of_both)["Against its teacher"].missing
    of_labels = groups(student.replace(loss=LossConfig(alpha=0)))
    assert of_labels["Against its teacher"].missing == "It learned from labels."


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": ModelConfig(name=pooled)}, "torch.nn.Linear"),
        (
            {
                "data": copies.DATA,
                "model": copies.MODEL,
                "optim": {"name": "adamw", "lr": 0.02},
            },
            "images with one label each",
        ),
    ],
    ids=["no linear head", "sentences"],
)
def test_what_cannot_be_had_leaves_the_rest(teacher, groups, changes, says):
    found = groups(teacher.replace(**changes))
    assert says in found["Training and held-out images"].missing
    assert found["Soft targets"].rows


def test_images_that_are_not_here_leave_the_rest(teacher, make, groups, monkeypatch):
    monkeypatch.setitem(make(teacher).record.data, "fingerprint", "other")

    def gone(*_):
        raise UserError("data", "digits", "images that are here", "Bring them back.")

    monkeypatch.setattr(knowledge, "training_data", gone)
    monkeypatch.setattr(evaluate, "training_data", gone)
    found = groups(teacher)
    assert "images that are here" in found["Training and held-out images"].missing
    assert found["Predictions"].rows


def test_a_diverged_network_says_so(teacher, groups):
    (group,) = groups(teacher.replace(optim={"lr": 1e-9})).values()
    assert group.missing.startswith("It diverged: accuracy at chance")


def test_all_of_a_cache(student, make, runtime):
    made = make(student.cache)
    plain, soft = measures_of_cache(made, runtime, 4.0)
    cache = LogitCache(made)
    labels = load(student.data, runtime.data_root).train.labels
    expected = logit_measures(cache.logits(torch.arange(len(cache))).float(), labels, 4.0)
    assert {name: value for name, (value,) in soft.rows.items()} == expected
    assert {"accuracy", "ece"} <= plain.rows.keys()
    assert not plain.rows.keys() & soft.rows.keys()
    with pytest.raises(UserError, match="temperature"):
        measures_of_cache(made, runtime, 0.0)
    with pytest.raises(UserError, match="a cache of all logits"):
        measures_of_cache(make(student.cache.replace(top_k=2)), runtime, 1.0)


def test_lines_are_aligned_and_absent_values_shown():
    told = format_groups(
        [
            Group("One", {"kl": (0.125,), "nearest_centre_agreement": (1.0,)}),
            Group("Two", {"kl": (0.5, float("nan"))}, ("training", "held-out")),
            Group("Three", missing="It is not here."),
        ]
    ).splitlines()
    assert told[0] == "One"
    assert "KL from the teacher" in told[1]
    assert told[1].index("0.125") + len("0.125") == told[2].index("1  NC4") + 1 == told[5].index("training") + 8
    assert told[6].split()[:3] == ["kl", "0.5", "–"]
    assert told[-1] == "Three: none. It is not here."
