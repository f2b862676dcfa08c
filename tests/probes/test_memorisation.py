"""Memorisation: which images count, what is answered, and what is left out where nothing is defined."""

from __future__ import annotations

import pytest
import torch

from distill.cache import LogitCache
from distill.config import DataConfig, MemorisationProbe, ModelConfig, OptimConfig, ScheduleConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.errors import UserError
from distill.probes import probe
from distill.training.network import load_network
from tests.data import copies

DATA = DataConfig(held_out=0.15, limit=200, label_noise=0.4, noise="symmetric", noise_seed=2)
CLEAN = DataConfig(held_out=0.15, limit=200)
NAMES = {"wrong_labels", "memorised", "recovered", "fitted_right", "held_out_accuracy_clean"}


@pytest.fixture
def measure(make, runtime, tmp_path):
    def measure(config) -> dict[str, float]:
        found = probe(MemorisationProbe(), make(config), runtime, tmp_path)
        assert not found.curves
        return found.values

    return measure


def by_hand(network, config, runtime, excluded=()):
    """Every measure, image by image."""
    noisy, clean = (load(data, runtime.data_root) for data in (config.data, CLEAN))
    model, normalise = load_network(network), Normaliser(clean.mean, clean.std)

    def answers(images):
        with torch.no_grad():
            return model(normalise(images)).argmax(1).tolist()

    rows = zip(answers(noisy.train.images), noisy.train.labels.tolist(), clean.train.labels.tolist(), strict=True)
    rows = [row for row in rows if row[1] not in excluded]
    wrong = [(answer, label, true) for answer, label, true in rows if label != true]
    right = [answer == label for answer, label, true in rows if label == true]
    held_out = zip(answers(clean.held_out.images), clean.held_out.labels.tolist(), strict=True)
    hits = [answer == true for answer, true in held_out]
    return {
        "wrong_labels": len(wrong) / len(rows),
        "memorised": sum(answer == label for answer, label, _ in wrong) / len(wrong),
        "recovered": sum(answer == true for answer, _, true in wrong) / len(wrong),
        "fitted_right": sum(right) / len(right),
        "held_out_accuracy_clean": sum(hits) / len(hits),
    }


def test_of_a_teacher_and_of_its_student(teacher, student, make, measure, runtime):
    teacher = teacher.replace(data=DATA)
    student = student.replace(data=DATA, cache=student.cache.replace(teacher=teacher, transfer_set=DATA))
    for config in (teacher, student):
        values = measure(config)
        assert values.keys() == NAMES
        assert values == pytest.approx(by_hand(make(config), config, runtime))
        assert values["memorised"] + values["recovered"] <= 1


def test_a_wide_network_learns_wrong_labels_by_heart_in_time(teacher, make, measure):
    """Arpit et al. 2017: patterns come first; a network that is large enough then learns what is wrong too."""
    early, late = (
        teacher.replace(
            data=DATA.replace(limit=400),
            model=ModelConfig(name="mlp", kwargs={"widths": [256]}),
            optim=OptimConfig(lr=0.1),
            schedule=ScheduleConfig(epochs=epochs, batch_size=32),
        )
        for epochs in (4, 60)
    )
    first, last = measure(early), measure(late)
    assert first["wrong_labels"] == last["wrong_labels"]
    assert first["memorised"] < 0.2
    assert first["recovered"] > 0.7
    assert first["fitted_right"] > 0.85
    assert last["memorised"] > 0.95
    assert last["fitted_right"] > 0.95
    assert last["held_out_accuracy_clean"] < first["held_out_accuracy_clean"]
    # By the labels as they are it looks far worse, since four in ten of them are wrong.
    assert make(early).record.metrics["held_out/accuracy"] < first["held_out_accuracy_clean"] - 0.2


def test_images_that_a_student_was_not_shown_do_not_count(student, make, measure, runtime):
    data = DATA.replace(noise="pair")
    student = student.replace(
        data=data,
        cache=student.cache.replace(teacher=student.cache.teacher.replace(data=data), transfer_set=data),
        exclude_classes=(3, 7),
    )
    # Left out is what is called 3, whatever it shows: a 2 that is called 3 is not shown.
    assert measure(student) == pytest.approx(by_hand(make(student), student, runtime, excluded=(3, 7)))


def test_without_noise_what_is_right_is_measured(teacher, measure, make):
    config = teacher.replace(data=CLEAN)
    values = measure(config)
    assert values.keys() == {"wrong_labels", "fitted_right", "held_out_accuracy_clean"}
    assert values["wrong_labels"] == 0
    assert values["held_out_accuracy_clean"] == pytest.approx(make(config).record.metrics["held_out/accuracy"])


def test_where_all_labels_are_wrong_none_is_fitted_right(teacher, measure):
    values = measure(teacher.replace(data=DATA.replace(label_noise=1.0, noise="pair")))
    assert values.keys() == NAMES - {"fitted_right"}
    assert values["wrong_labels"] == 1


def test_without_held_out_images_there_is_no_held_out_accuracy(teacher, measure):
    values = measure(teacher.replace(data=DATA.replace(held_out=0.0)))
    assert values.keys() == NAMES - {"held_out_accuracy_clean"}


def test_of_sentences_nothing_is_measured(teacher, measure):
    assert measure(teacher.replace(data=copies.DATA, model=copies.MODEL)) == {}


def test_other_data_are_refused(teacher, make, runtime, tmp_path, monkeypatch):
    network = make(teacher.replace(data=DATA))
    monkeypatch.setitem(network.record.data, "fingerprint", "other")
    with pytest.raises(UserError, match=r"the images that digits-\S*mlp16"):
        probe(MemorisationProbe(), network, runtime, tmp_path)


def test_a_cache_of_other_labels_is_refused(cache, make, runtime):
    """The pixels are the same; but soft targets beside other labels would be another transfer set."""
    made = make(cache.replace(teacher=cache.teacher.replace(data=DATA), transfer_set=DATA))
    logits = LogitCache(made)
    logits.check_fits(load(DATA, runtime.data_root))
    for other in (CLEAN, DATA.replace(noise_seed=3), DATA.replace(label_noise=0.2), DATA.replace(noise="pair")):
        with pytest.raises(UserError) as raised:
            logits.check_fits(load(other, runtime.data_root))
        assert "\n" not in str(raised.value)
