"""Test the sweep stage: what it measures and on which images, whom it leaves out, and what it writes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from distill.config import DataConfig, ScheduleConfig, SweepConfig
from distill.errors import UserError
from distill.metrics.choice import CHOSEN_BY
from distill.metrics.temperature import fit_temperature
from distill.pipeline.graph import ensure
from distill.reports.sweep_answers import draw, format_sweep
from distill.stages.analysis import measure as measured_by_analysis
from distill.stages.sweep import SWEEP, measure, scaled_by_halves, write_sweep
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_predictions
from tests.small import TINY

SMOOTHINGS = (0.0, 0.2, 0.5)


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> tuple[SweepConfig, dict[str, Artifact | str]]:
    """Train the networks of a sweep, and return both."""
    from distill.config import TeacherConfig

    folder = tmp_path_factory.mktemp("sweep")
    runtime = Runtime(store=folder / "store", data_root=folder / "data", device="cpu", progress=False, jobs=1)
    recipe = TeacherConfig(
        data=DataConfig(held_out=0.15), model=TINY, schedule=ScheduleConfig(epochs=4, batch_size=64), seed=3
    )
    config = SweepConfig(teacher=recipe, smoothings=SMOOTHINGS, seeds=3)
    return config, ensure(config.networks().values(), ArtifactStore(runtime.store), runtime)


@pytest.fixture(scope="module")
def plain(setting, tmp_path_factory) -> Path:
    """Write the sweep with all its networks, and return the folder."""
    folder = tmp_path_factory.mktemp("plain")
    write_sweep(*setting, folder)
    return folder


@pytest.fixture(scope="module")
def found(plain) -> dict:
    """Read the `sweep.json` of the sweep with all its networks."""
    return json.loads((plain / SWEEP).read_text())


@pytest.fixture
def swept(setting, tmp_path):
    def swept(**left_out: str) -> dict:
        """Read the `sweep.json` of a sweep in which networks named "ε,seed" diverged for a reason."""
        config, networks = setting
        networks = dict(networks)
        for (smoothing, seed), recipe in config.networks().items():
            if reason := left_out.get(f"{smoothing:g},{seed}"):
                networks[key(recipe)] = reason
        write_sweep(config, networks, tmp_path)
        return json.loads((tmp_path / SWEEP).read_text())

    return swept


def values(found: dict, smoothing: float, name: str, split: str = "held_out") -> dict[str, float]:
    (row,) = (
        row for row in found["rows"] if (row["smoothing"], row["measure"], row["split"]) == (smoothing, name, split)
    )
    return row["values"]


def test_networks_of_one_seed_start_alike_and_differ_in_smoothing_alone(setting):
    config, _ = setting
    networks = config.networks()
    assert [*networks] == [(smoothing, seed) for smoothing in SMOOTHINGS for seed in (3, 4, 5)]
    for (smoothing, seed), recipe in networks.items():
        assert recipe == config.teacher.replace(seed=seed).with_loss(smoothing=smoothing)


def test_it_measures_what_the_analysis_measures(setting, found):
    config, networks = setting
    for (smoothing, seed), recipe in config.networks().items():
        network = networks[key(recipe)]
        for split in ("held_out", "test"):
            expected = measured_by_analysis(recipe, network, None, split).values
            for name in ("accuracy", "nll", "ece", "brier", "confidence"):
                assert values(found, smoothing, name, split)[str(seed)] == pytest.approx(expected[name])
        for name in ("accuracy", "ece", "interclass_variance_relative"):
            chosen_by = values(found, smoothing, name)[str(seed)]
            assert measured_by_analysis(recipe, network, None, "test").values[f"held_out_{name}"] == chosen_by
        of_held_out = measured_by_analysis(recipe, network, None, "held_out").values
        for name in ("interclass_variance_relative", "conditional_mutual_information", "bits_beyond_top1"):
            assert values(found, smoothing, name)[str(seed)] == pytest.approx(of_held_out[name])


def test_what_is_of_test_images_chooses_nothing(setting, found, tmp_path, monkeypatch):
    config, networks = setting

    def shuffled(network, split):
        logits, labels = load_predictions(network, split)
        return logits.flip(0) if split == "test" else logits, labels

    monkeypatch.setattr("distill.stages.sweep.load_predictions", shuffled)
    write_sweep(config, networks, tmp_path)
    changed = json.loads((tmp_path / SWEEP).read_text())
    assert found["choices"] == changed["choices"]
    assert found["notes"] == changed["notes"]
    assert [row for row in found["rows"] if row["split"] == "test"] != [
        row for row in changed["rows"] if row["split"] == "test"
    ]


def test_each_half_is_scaled_by_the_temperature_of_the_other():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    logits = torch.randn(200, 4, generator=generator) + 2 * torch.eye(4)[labels]
    scaled = scaled_by_halves(logits, labels)
    temperatures = (logits.double() / scaled).mean(dim=1)
    assert torch.allclose(logits.double() / scaled, temperatures.unsqueeze(1).expand(-1, 4))
    halves = temperatures.round(decimals=9).unique()
    assert len(halves) == 2
    first = (temperatures - halves[0]).abs() < 1e-6
    assert labels[first].bincount().tolist() == labels[~first].bincount().tolist() == [25] * 4
    for judged, fitted in ((first, ~first), (~first, first)):
        expected = fit_temperature(logits[fitted], labels[fitted])
        assert temperatures[judged].mean().item() == pytest.approx(expected)


def test_labels_of_one_half_do_not_scale_it():
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(100, dtype=torch.long)
    logits = torch.randn(100, 3, generator=generator) + torch.tensor([1.0, 0.0, 0.0])
    before = scaled_by_halves(logits, labels)
    worse = logits.clone()
    worse[0::2, 0] -= 3  # one class, so the halves are the even and the odd ones
    after = scaled_by_halves(worse, labels)
    ratio = (worse.double() / after / (logits.double() / before))[0::2]
    assert torch.allclose(ratio, torch.ones_like(ratio))
    assert not torch.allclose(after[1::2], before[1::2])


def test_one_image_has_no_other_half():
    assert scaled_by_halves(torch.tensor([[1.0, 2.0]]), torch.tensor([0])).tolist() == [[1.0, 2.0]]


def test_scaled_measures_are_of_other_images_than_their_temperature(setting):
    config, networks = setting
    network = networks[key(config.teacher.with_loss(smoothing=0.2))]
    found = measure(network)
    held_out, held_out_labels = load_predictions(network, "held_out")
    logits, labels = load_predictions(network, "test")
    fitted = fit_temperature(held_out, held_out_labels)
    assert found["held_out"]["scaled_temperature"] == pytest.approx(fitted)
    p = torch.softmax(logits.double() / fitted, dim=1)
    expected = multiclass_calibration_error(p, labels, num_classes=10, n_bins=15).item()
    assert found["test"]["scaled_ece"] == pytest.approx(expected, abs=1e-5)
    assert "scaled_temperature" not in found["test"]


def test_the_json_says_all_that_readers_need(found):
    assert found["data"] == "digits"
    assert found["smoothings"] == [*SMOOTHINGS]
    assert found["seeds"] == [3, 4, 5]
    assert found["diverged"] == []
    assert {use: choice["measure"] for use, choice in found["choices"].items()} == CHOSEN_BY
    for choice in found["choices"].values():
        assert choice.keys() == {"smoothing", "measure", "value", "undecided", "reason"}
        assert {choice["smoothing"], *choice["undecided"]} <= set(SMOOTHINGS)
    for row in found["rows"]:
        assert row.keys() == {"smoothing", "measure", "split", "values", "mean", "low", "high"}
        assert row["values"].keys() == {"3", "4", "5"}
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["mean"] == pytest.approx(sum(row["values"].values()) / 3)
    # After so short a training networks are not sure enough, and smoothing makes it worse.
    images, note = found["notes"]
    assert images == f"Chosen on {found['held_out_images']} held-out images."
    assert note.startswith("Over-softened: at ε = ")
    assert "0.5 (" in note


def test_a_diverged_network_is_told_and_its_strength_is_not_recommended(swept):
    found = swept(**{"0.2,4": "loss = nan"})
    assert found["diverged"] == [{"smoothing": 0.2, "seed": 4, "reason": "loss = nan"}]
    assert values(found, 0.2, "accuracy").keys() == {"3", "5"}
    assert values(found, 0.0, "accuracy").keys() == {"3", "4", "5"}, "others keep that seed"
    for choice in found["choices"].values():
        assert 0.2 not in (choice["smoothing"], *choice["undecided"])
        assert "Not compared, since it has fewer seeds: ε = 0.2." in choice["reason"]
    assert "diverged     ε = 0.2, seed 4, left out: loss = nan" in format_sweep(found)


def test_a_strength_of_which_all_diverged_has_no_rows(swept, tmp_path):
    found = swept(**{f"0.5,{seed}": "loss = nan" for seed in (3, 4, 5)})
    assert {row["smoothing"] for row in found["rows"]} == {0.0, 0.2}
    assert len(found["diverged"]) == 3
    assert "loss = nan" in (tmp_path / "index.html").read_text()


def test_a_network_at_chance_is_left_out(setting, tmp_path, monkeypatch):
    config, networks = setting
    lost = networks[key(config.teacher.with_loss(smoothing=0.5))].path

    def predictions(network, split):
        logits, labels = load_predictions(network, split)
        return torch.zeros_like(logits) if network.path == lost else logits, labels

    monkeypatch.setattr("distill.stages.sweep.load_predictions", predictions)
    write_sweep(config, networks, tmp_path)
    (run,) = json.loads((tmp_path / SWEEP).read_text())["diverged"]
    assert (run["smoothing"], run["seed"]) == (0.5, 3)
    assert "accuracy at chance" in run["reason"]


def test_nothing_learned_is_one_clear_line(setting, tmp_path):
    config, _ = setting
    with pytest.raises(UserError, match=r"9 networks.*one or more that learns"):
        write_sweep(config, {key(recipe): "loss = nan" for recipe in config.networks().values()}, tmp_path)


def test_no_held_out_images_are_one_clear_line(setting, tmp_path, monkeypatch):
    nothing = torch.empty(0, 10), torch.empty(0, dtype=torch.int64)
    monkeypatch.setattr("distill.stages.sweep.load_predictions", lambda network, split: nothing)
    with pytest.raises(UserError, match=r"data\.held_out = 0\.15: .*with a larger `data\.held_out`"):
        write_sweep(*setting, tmp_path)


def test_the_page_is_whole_and_stands_alone(plain, found):
    page = (plain / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page), "nothing is loaded"
    assert "@media (max-width: 36rem)" in page
    for choice in found["choices"].values():
        assert choice["reason"].replace("'", "&#39;").replace(" = ", "\u00a0=\u00a0") in page
    ET.parse(plain / "sweep.svg")
    assert (plain / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_marks_what_was_chosen(found):
    figure = draw(found)
    assert len(figure.axes) == 3
    for axes, choice in zip(figure.axes, found["choices"].values(), strict=True):
        (marked,) = (line for line in axes.lines if line.get_marker() == "D")
        assert marked.get_xdata() == [choice["smoothing"]]
        assert marked.get_ydata() == pytest.approx([100 * choice["value"]])
        hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert [list(line.get_xdata()) for line in hollow] == [choice["undecided"]]
    assert figure.get_label()


def test_one_seed_has_no_interval_and_nothing_is_told_apart(setting, tmp_path):
    config, networks = setting
    one = config.replace(seeds=1)
    write_sweep(one, networks, tmp_path)
    found = json.loads((tmp_path / SWEEP).read_text())
    assert all(row["low"] is None and row["high"] is None for row in found["rows"])
    for choice in found["choices"].values():
        assert {choice["smoothing"], *choice["undecided"]} == set(SMOOTHINGS)
    assert "nan" not in format_sweep(found)


def test_tensorboard_shows_the_figure_and_the_answers(plain):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(plain / "tb"))
    shown.Reload()
    assert shown.Tags()["images"] == ["sweep/smoothing"]
    (text,) = shown.Tensors("sweep/answers/text_summary")
    assert "teaching" in text.tensor_proto.string_val[0].decode()
