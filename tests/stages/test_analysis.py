"""Test what networks are measured by, whom they are compared with, and which measures are left out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from distill.cache import LogitCache
from distill.config import AnalysisConfig, AugmentConfig, DataConfig, LossConfig, TeacherConfig
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics.dark_knowledge import class_similarity, similarity_correlation
from distill.metrics.measures import compute, of_kind
from distill.stages import analysis
from distill.stages.analysis import measure, measure_cache, own_teacher
from distill.store.key import key
from distill.training.network import load_predictions

INDEPENDENT = {"agreement_independent", "kl_independent", "similarity_independent"}
DARK_KNOWLEDGE = {
    "bits_beyond_top1",
    "conditional_mutual_information",
    "nontarget_entropy",
    "aggregated_variance",
}


@pytest.fixture
def analysed(make):
    """Analyse runs, and return the measures of each, in their order."""

    def analysed(*runs, **fields) -> list[dict]:
        config = AnalysisConfig(runs=runs, **fields)
        return [*json.loads(make(config).file("measures.json").read_text()).values()]

    return analysed


def by_hand(student, teacher) -> tuple[float, float]:
    """Compute agreement and KL(teacher ‖ student), sample by sample."""
    same, kl = [], []
    for z_s, z_t in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        log_s, log_t = (z - np.log(np.exp(z - z.max()).sum()) - z.max() for z in (z_s, z_t))
        same.append(z_s.argmax() == z_t.argmax())
        kl.append(float((np.exp(log_t) * (log_t - log_s)).sum()))
    return float(np.mean(same)), float(np.mean(kl))


def test_a_student_is_compared_with_its_teacher_and_with_its_teachers_twin(student, make, analysed):
    own = student.cache.teacher
    twin, cousin = own.replace(seed=1), own.replace(seed=1).with_loss(smoothing=0.1)
    of_student, of_teacher = analysed(student, own, independent=(cousin, twin))
    logits, labels = load_predictions(make(student), "test")
    of_own, of_twin = (load_predictions(make(config), "test")[0] for config in (own, twin))

    agreement, kl = by_hand(logits, of_own)
    assert of_student["values"]["agreement"] == pytest.approx(agreement)
    assert of_student["values"]["kl"] == pytest.approx(kl)
    beside = compute(of_kind("teacher"), student=logits, teacher=of_own, labels=labels)
    assert beside.items() <= of_student["values"].items()
    agreement, kl = by_hand(logits, of_twin)
    assert of_student["values"]["agreement_independent"] == pytest.approx(agreement)
    assert of_student["values"]["kl_independent"] == pytest.approx(kl)
    assert "similarity_independent" not in of_student["values"]

    agreement, kl = by_hand(of_own, of_twin)
    assert "agreement" not in of_teacher["values"]
    assert of_teacher["values"]["agreement_independent"] == pytest.approx(agreement)
    assert of_teacher["values"]["kl_independent"] == pytest.approx(kl)
    alike = similarity_correlation(class_similarity(of_own, labels), class_similarity(of_twin, labels))
    assert of_teacher["values"]["similarity_independent"] == pytest.approx(alike)


def test_who_is_not_independent(student, analysed):
    """Networks of another recipe, and the teacher itself, are no independent teachers."""
    own = student.cache.teacher
    (found,) = analysed(student, independent=(own.replace(seed=1).with_loss(smoothing=0.1), own))
    assert not INDEPENDENT & found["values"].keys()

    of_labels = student.replace(loss=LossConfig(alpha=0))
    snapped = own.replace(snapshots=2)
    of_snapshot = student.replace(cache=student.cache.replace(teacher=snapped, snapshot=1))
    assert own_teacher(student) == own
    assert own_teacher(of_labels) is own_teacher(of_snapshot) is None
    labels, snapshot = analysed(
        of_labels, of_snapshot, reference=own, independent=(own.replace(seed=1), snapped.replace(seed=1))
    )
    assert not INDEPENDENT & {*labels["values"], *snapshot["values"]}
    assert "agreement" in labels["values"], "the reference is its control"
    assert "agreement" not in snapshot["values"], "predictions of a snapshot are not stored"


def test_an_independent_teacher_that_learned_nothing_is_no_control(student, make, analysed, monkeypatch):
    own = student.cache.teacher
    twins = own.replace(seed=1), own.replace(seed=2)
    first, second = map(make, twins)

    def predictions(network, split):
        logits, labels = load_predictions(network, split)
        return (torch.zeros_like(logits) if network.path == first.path else logits), labels

    monkeypatch.setattr(analysis, "load_predictions", predictions)
    (alone,) = analysed(student, independent=twins[:1])
    (found,) = analysed(student, independent=twins)
    assert not INDEPENDENT & alone["values"].keys()
    agreement, _ = by_hand(load_predictions(make(student), "test")[0], load_predictions(second, "test")[0])
    assert found["values"]["agreement_independent"] == pytest.approx(agreement)


def test_a_diverged_independent_teacher_is_no_control(student, make):
    twin = student.cache.teacher.replace(seed=1)
    config = AnalysisConfig(runs=(student,), independent=(twin,))
    assert analysis.independent_teacher(student.cache.teacher, config, {key(twin): "loss was not finite"}) is None
    assert analysis.independent_teacher(student.cache.teacher, config, {key(twin): make(twin)}) is not None


def test_held_out_accuracy_is_of_the_held_out_images_whatever_the_split(teacher, make):
    network = make(teacher)
    logits, labels = load_predictions(network, "held_out")
    right = sum(int(row.argmax()) == label for row, label in zip(logits, labels.tolist(), strict=True))
    for split in ("test", "held_out"):
        assert measure(teacher, network, None, split).values["held_out_accuracy"] == pytest.approx(
            right / len(labels)
        )
    assert measure(teacher, network, None).values["accuracy"] != pytest.approx(right / len(labels))


def test_nothing_held_out(teacher, make):
    config = teacher.replace(data=DataConfig(held_out=0))
    network = make(config)
    found = measure(config, network, None).values
    assert "held_out_accuracy" not in found
    assert found.keys() >= DARK_KNOWLEDGE
    with pytest.raises(UserError, match=r"split = 'held_out': expected one that has images"):
        measure(config, network, None, "held_out")


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_maximum_suppression_is_no_smoothing_of_targets(teacher, student, make, smoothing):
    suppressed = {"smoothing": smoothing, "smoothing_convention": "maxsup"}
    of_labels = student.replace(cache=None, loss=LossConfig(alpha=0, **suppressed))
    for config in (teacher.with_loss(**suppressed), of_labels):
        assert "equivalent_smoothing" not in measure(config, make(config), None).values


def blobs(classes=2, absent=None, n=120, split=60):
    """Make images of one brightness per class; the class `absent` has no test image."""
    generator = torch.Generator().manual_seed(0)

    def images(count, seed_shift, without=None):
        labels = (torch.arange(count) + seed_shift) % classes
        labels = labels[labels != without] if without is not None else labels
        noise = torch.randint(0, 60, (len(labels), 1, 4, 4), generator=generator)
        return (noise + labels.view(-1, 1, 1, 1) * (190 // classes)).to(torch.uint8), labels

    return *images(n, 0), *images(split, 1, absent), [f"c{cls}" for cls in range(classes)]


@pytest.mark.parametrize("kwargs", [{"classes": 2}, {"classes": 4, "absent": 2}], ids=["two classes", "no sample"])
def test_what_is_not_defined_is_left_out(teacher, student, make, analysed, kwargs):
    data = DataConfig(name=blobs, kwargs=kwargs, held_out=0.2)
    own = TeacherConfig(data=data, model=teacher.model, schedule=teacher.schedule.replace(epochs=40, batch_size=32))
    cache = student.cache.replace(teacher=own, transfer_set=data)
    pupil = student.replace(data=data, cache=cache, schedule=own.schedule)
    for found in analysed(pupil, own, independent=(own.replace(seed=1),)):
        assert found["diverged"] is None
        assert found["values"]["accuracy"] > 0.7
        assert all(map(math.isfinite, found["values"].values()))
        assert {"nontarget_entropy", "conditional_mutual_information"} <= found["values"].keys()
        assert "agreement_independent" in found["values"]
        if kwargs["classes"] == 2:
            assert found["values"]["nontarget_entropy"] == 0, "one incorrect class"
            assert "similarity_independent" not in found["values"], "and no order of one number"


def test_a_student_that_never_saw_classes(student, analysed):
    one, most = (student.replace(exclude_classes=classes) for classes in ((3,), tuple(range(8))))
    found, of_pair = analysed(one, most, independent=(student.cache.teacher.replace(seed=1),))
    assert {"unseen_recall", "agreement_independent", *DARK_KNOWLEDGE} <= found["values"].keys()
    assert of_pair["diverged"] or of_pair["values"].keys() >= DARK_KNOWLEDGE


def test_measures_of_a_cache_are_finite_and_without_bits(student, make, runtime):
    cache = LogitCache(make(student.cache))
    found = measure_cache(cache, load(student.data, runtime.data_root))
    assert {*DARK_KNOWLEDGE} - found.keys() == {"bits_beyond_top1"}, "its teacher was trained on these images"
    assert all(map(math.isfinite, found.values()))


def test_augmented_teachers_are_compared_too(teacher, analysed):
    shifted = teacher.replace(augment=AugmentConfig(pad=1))
    (found,) = analysed(shifted, independent=(teacher.replace(seed=1), shifted.replace(seed=2)))
    assert found["values"].keys() >= INDEPENDENT


def test_few_images_of_a_rare_class_do_not_take_a_networks_measures(tmp_path, analysed):
    """A network that is right on all of 30 and 3 images has learned, and a sweep chooses among such networks."""
    rng, colours = np.random.default_rng(0), {"a": (190, 80, 90), "b": (80, 180, 150)}
    for split, name, count in ((s, n, c) for s in ("train", "test") for n, c in (("a", 30), ("b", 3))):
        (tmp_path / "f" / split / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(colours[name] + rng.integers(-60, 60, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "f" / split / name / f"{number}.png")
    config = TeacherConfig(
        data=DataConfig(name=f"imagefolder:{tmp_path / 'f'}"),
        model={"kwargs": {"widths": [16]}},
        schedule={"epochs": 10, "batch_size": 8},
        optim={"lr": 0.05},
    )
    (measured,) = analysed(config)
    assert measured["diverged"] is None
    assert measured["values"]["accuracy"] == 1
