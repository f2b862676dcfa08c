"""Wrong labels: how many, which, the same for the same seed, and part of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binom, chisquare

from distill.config import DataConfig
from distill.data.sets.load import load
from distill.data.sets.noise import noisy_labels
from distill.errors import UserError

COUNT = 60_000
CLASSES = 10
INDEX = torch.arange(COUNT)
LABELS = INDEX % CLASSES

rates, kinds, seeds = st.floats(0, 1), st.sampled_from(["symmetric", "pair"]), st.integers(0, 2**63 - 1)
numbers = st.integers(2, 1000)


def steps(noisy, labels, classes):
    """How many classes further each label is; 0 where it is as it was."""
    return (noisy - labels) % classes


def some_labels(classes, count=300):
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(classes))


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.4, 0.9])
def test_as_many_are_wrong_as_the_rate_says(kind, rate):
    wrong = int((noisy_labels(LABELS, INDEX, rate, kind, CLASSES, seed=3) != LABELS).sum())
    low, high = binom.interval(1 - 1e-6, COUNT, rate)
    assert low <= wrong <= high


def test_whether_a_label_is_wrong_does_not_depend_on_its_class():
    wrong = noisy_labels(LABELS, INDEX, 0.4, "symmetric", CLASSES, seed=0) != LABELS
    assert chisquare(LABELS[wrong].bincount(minlength=CLASSES).numpy()).pvalue > 1e-6


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_symmetric_noise_takes_every_other_class_alike(classes):
    labels = INDEX % classes
    taken = steps(noisy_labels(labels, INDEX, 0.4, "symmetric", classes, seed=1), labels, classes)
    counts = taken[taken > 0].bincount(minlength=classes)[1:]
    assert len(counts) == classes - 1
    assert chisquare(counts.numpy()).pvalue > 1e-6


def test_the_matrix_of_symmetric_noise_is_that_of_co_teaching():
    """Han et al. 2018, and their published code: 1 - rate on the diagonal and rate / (K - 1) everywhere else."""
    rate, classes = 0.4, 4
    labels = INDEX % classes
    noisy = noisy_labels(labels, INDEX, rate, "symmetric", classes, seed=5)
    counts = (labels * classes + noisy).bincount(minlength=classes**2).view(classes, classes)
    matrix = torch.full((classes, classes), rate / (classes - 1), dtype=torch.float64).fill_diagonal_(1 - rate)
    for row, shares in zip(counts, matrix, strict=True):
        assert chisquare(row.numpy(), (shares * COUNT / classes).numpy()).pvalue > 1e-6


@given(rates, seeds, numbers)
def test_pair_noise_takes_the_next_class_and_the_first_after_the_last(rate, seed, classes):
    labels = some_labels(classes)
    noisy = noisy_labels(labels, torch.arange(300), rate, "pair", classes, seed)
    assert set(steps(noisy, labels, classes).tolist()) <= {0, 1}


@given(rates, kinds, seeds, numbers)
def test_noisy_labels_are_classes(rate, kind, seed, classes):
    noisy = noisy_labels(some_labels(classes), torch.arange(300), rate, kind, classes, seed)
    assert noisy.dtype == torch.int64
    assert 0 <= int(noisy.min()) <= int(noisy.max()) < classes


@given(kinds, seeds, numbers)
def test_at_rate_0_none_is_wrong_and_at_rate_1_all_are(kind, seed, classes):
    labels, index = some_labels(classes), torch.arange(300)
    assert torch.equal(noisy_labels(labels, index, 0.0, kind, classes, seed), labels)
    assert not (noisy_labels(labels, index, 1.0, kind, classes, seed) == labels).any()


@given(rates, rates, kinds, seeds, numbers)
def test_a_lower_rate_replaces_a_part_of_what_a_higher_one_replaces(one, other, kind, seed, classes):
    labels, index = some_labels(classes), torch.arange(300)
    few, many = (noisy_labels(labels, index, rate, kind, classes, seed) for rate in sorted((one, other)))
    wrong = few != labels
    assert torch.equal(few[wrong], many[wrong])


@given(rates, seeds)
def test_with_two_classes_both_kinds_are_the_same(rate, seed):
    labels, index = some_labels(2), torch.arange(300)
    symmetric, pair = (noisy_labels(labels, index, rate, kind, 2, seed) for kind in ("symmetric", "pair"))
    assert torch.equal(symmetric, pair)


@given(rates, kinds, seeds, st.permutations(range(20)))
def test_a_sample_has_its_label_whatever_stands_beside_it(rate, kind, seed, order):
    rows = torch.tensor(order)
    labels = some_labels(CLASSES, 20)
    whole = noisy_labels(labels, torch.arange(20), rate, kind, CLASSES, seed)
    assert torch.equal(noisy_labels(labels[rows], rows, rate, kind, CLASSES, seed), whole[rows])


def test_another_seed_or_another_counter_replaces_others():
    def wrong(seed, counter):
        return noisy_labels(LABELS, INDEX, 0.4, "symmetric", CLASSES, seed, counter) != LABELS

    first = wrong(0, 0)
    assert torch.equal(first, wrong(0, 0))
    for other in (wrong(1, 0), wrong(0, 1)):
        both = int((first & other).sum())
        low, high = binom.interval(1 - 1e-6, COUNT, 0.4**2)
        assert low <= both <= high, "independent of the first"


NOISY = DataConfig(held_out=0.2, label_noise=0.4)


def test_wrong_labels_are_those_of_training_and_held_out_images_only(tmp_path: Path) -> None:
    clean, noisy = (load(config, tmp_path) for config in (DataConfig(held_out=0.2), NOISY))
    for split in ("train", "held_out", "test"):
        assert torch.equal(getattr(noisy, split).images, getattr(clean, split).images)
    assert torch.equal(noisy.test.labels, clean.test.labels)
    index = {"train": clean.positions, "held_out": torch.arange(len(clean.held_out))}
    for counter, (split, rows) in enumerate(index.items()):
        labels = getattr(clean, split).labels
        expected = noisy_labels(labels, rows, 0.4, "symmetric", 10, seed=0, counter=counter)
        assert torch.equal(getattr(noisy, split).labels, expected)
        assert 0.3 < float((expected != labels).double().mean()) < 0.5
    assert (noisy.mean, noisy.std, noisy.classes) == (clean.mean, clean.std, clean.classes)
    assert torch.equal(load(DataConfig(held_out=0.2), tmp_path).train.labels, clean.train.labels), "left alone"


def test_an_image_keeps_its_label_whatever_the_limit(tmp_path: Path) -> None:
    whole, part = (load(NOISY.replace(limit=limit), tmp_path) for limit in (None, 300))
    rows = torch.isin(whole.positions, part.positions)
    assert torch.equal(whole.train.labels[rows], part.train.labels)
    assert torch.equal(whole.held_out.labels, part.held_out.labels)


def test_other_labels_are_another_data_set(tmp_path: Path) -> None:
    same = NOISY.replace(), NOISY.replace(limit=None)
    others = (
        NOISY.replace(label_noise=0.0),
        NOISY.replace(label_noise=0.2),
        NOISY.replace(noise="pair"),
        NOISY.replace(noise_seed=1),
        NOISY.replace(split_seed=1),
    )
    prints = [load(config, tmp_path).fingerprint for config in (NOISY, *others)]
    assert len(set(prints)) == len(prints)
    assert {load(config, tmp_path).fingerprint for config in same} == {prints[0]}
    assert load(DataConfig(noise="pair", noise_seed=3), tmp_path) is load(DataConfig(), tmp_path), "nothing wrong"


def test_data_whose_labels_cannot_be_wrong_are_refused(tmp_path: Path, plugin: str) -> None:
    for function, expected in {
        "per_position": "0 for .*a label per position",
        "one_class": "0 with one class",
    }.items():
        config = DataConfig(name=f"{plugin}:{function}", label_noise=0.4)
        with pytest.raises(
            UserError, match=rf"^data\.label_noise = 0\.4.*{expected}.*Drop `data\.label_noise`"
        ) as raised:
            load(config, tmp_path)
        assert "\n" not in str(raised.value)
        assert len(load(config.replace(label_noise=0.0), tmp_path).train)


def test_all_labels_of_two_classes_can_be_wrong(tmp_path: Path, plugin: str) -> None:
    config = DataConfig(name=f"{plugin}:two_classes", held_out=0.25)
    clean, noisy = load(config, tmp_path), load(config.replace(label_noise=1.0), tmp_path)
    assert torch.equal(noisy.train.labels, 1 - clean.train.labels)
    assert torch.equal(noisy.held_out.labels, 1 - clean.held_out.labels)


def test_without_held_out_images_there_are_no_labels_to_be_wrong(tmp_path: Path) -> None:
    data = load(NOISY.replace(held_out=0.0), tmp_path)
    assert len(data.held_out.labels) == 0
    assert len(data.train) == len(data.positions)


def test_labels_of_an_image_folder_can_be_wrong(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "cow", "dog")):
        for part, count in (("train", 20), ("test", 4)):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((4, 4, 3), 20 * number + i, np.uint8)).save(folder / f"{i:02}.png")
    config = DataConfig(name=f"imagefolder:{tmp_path / 'pets'}", held_out=0.2)
    clean = load(config, tmp_path / "root", progress=False)
    noisy = load(config.replace(label_noise=1.0, noise="pair"), tmp_path / "root", progress=False)
    for split in ("train", "held_out"):
        assert torch.equal(getattr(noisy, split).labels, (getattr(clean, split).labels + 1) % 3)
    assert torch.equal(noisy.test.labels, clean.test.labels)
    part = load(config.replace(label_noise=0.5, limit=24), tmp_path / "root", progress=False)
    whole = load(config.replace(label_noise=0.5), tmp_path / "root", progress=False)
    assert torch.equal(whole.train.labels[torch.isin(whole.positions, part.positions)], part.train.labels)
