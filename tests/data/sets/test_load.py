"""Loading by name: splits, limit, mean and deviation, fingerprint, and what is refused."""

from pathlib import Path

import pytest
import torch

from distill.config import DataConfig
from distill.data.sets.load import load
from distill.errors import UserError
from tests.memory import forget_data_sets

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_positions_lead_back_to_the_published_order(tmp_path, held_out):
    whole, part = (load(DataConfig(held_out=share), tmp_path) for share in (0.0, held_out))
    assert torch.equal(whole.positions, torch.arange(len(whole.train)))
    assert torch.equal(whole.train.images[part.positions], part.train.images)
    assert torch.equal(whole.train.labels[part.positions], part.train.labels)


def test_mean_and_std_are_those_of_the_training_split(tmp_path):
    data = load(DataConfig(), tmp_path)
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx((float(pixels.mean()),), abs=1e-12)
    assert data.std == pytest.approx((float(pixels.std(correction=0)),), abs=1e-12)


def test_the_test_set_does_not_depend_on_the_held_out_split(tmp_path):
    one, other = (
        load(DataConfig(held_out=share, split_seed=seed), tmp_path) for share, seed in ((0.1, 0), (0.3, 5))
    )
    assert torch.equal(one.test.images, other.test.images)
    assert one.fingerprint != other.fingerprint
    assert len(load(DataConfig(held_out=0), tmp_path).held_out) == 0


def test_loads_once_per_process_whatever_the_progress_bar(tmp_path):
    assert load(DataConfig(), tmp_path) is load(DataConfig(), tmp_path, progress=False)
    first = load(DataConfig(), tmp_path)
    forget_data_sets()
    assert load(DataConfig(), tmp_path).fingerprint == first.fingerprint


def test_missing_files_list_the_ways_out(tmp_path):
    with pytest.raises(UserError, match=r"offline.*MNIST/raw.*DISTILL_DATA.*digits"):
        load(DataConfig(name="mnist"), tmp_path)


@pytest.mark.parametrize("name", ["imagenet", "", "imagefolder", "imagefolder:"])
def test_an_unknown_name_lists_the_known_ones(tmp_path, name):
    with pytest.raises(
        UserError, match=r"digits, fashion-mnist.*imagefolder:PATH.*hfdataset:PATH, package\.module:function"
    ):
        load(DataConfig(name=name), tmp_path)


def test_arguments_of_a_set_that_takes_none_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.kwargs"):
        load(DataConfig(kwargs={"size": 8}), tmp_path)


def test_a_limit_draws_from_what_is_left_to_train_on(tmp_path: Path) -> None:
    whole = load(DataConfig(name="digits", held_out=0.2), tmp_path)
    part = load(DataConfig(name="digits", held_out=0.2, limit=300), tmp_path)
    assert abs(len(part.train) - 300) <= 5
    assert set(part.positions.tolist()) < set(whole.positions.tolist())
    counts = part.train.labels.bincount()
    assert int(counts.max() - counts.min()) <= 2, "stratified"
    for split in ("held_out", "test"):
        assert torch.equal(getattr(part, split).images, getattr(whole, split).images)
    rows = torch.isin(whole.positions, part.positions)
    assert torch.equal(whole.train.images[rows], part.train.images)
    all_of_them = load(DataConfig(name="digits", held_out=0.2, limit=len(whole.train)), tmp_path)
    assert torch.equal(all_of_them.positions, whole.positions)
    with pytest.raises(UserError, match=r"data\.limit"):
        load(DataConfig(name="digits", held_out=0.2, limit=2000), tmp_path)
