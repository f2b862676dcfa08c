"""Smoothing and temperature in translation: calibration, BLEU and NLL of a Transformer's next tokens.

Reproduces Figures 3 and 4 of Müller, Kornblith & Hinton 2019 and the row of their Table 3 on translation: smoothing
calibrates next-token predictions as temperature scaling does, and raises BLEU; a higher temperature raises the
BLEU of the network of hard targets a little, but not to that of smoothing; and yet the NLL of the network of hard
targets is lower at every temperature.

Per seed: two Transformers that differ in nothing but smoothing. Reliability, ECE and NLL are of the next token
given the correct prefix, padding left out. BLEU is of beam search (beam 4, length penalty 0.6) with logits divided
by the temperature. `lowest_nll` and `bleu_highest` are at the temperature of the grid that suits the test set best.

What departs from the paper: the data are not English-German of WMT but a synthetic language pair of a few thousand
sentences and 190 target words (`distill/data/sets/translation.py`), the network is tiny, and it sees the same
sentences tens of times. In return the true distribution is known: `oracle_nll` is the NLL that no network can beat
but by chance, and `possible_translation` says how many sentences are a translation at all. So few sentences stand
for what the paper has from its size: a network that grows overconfident. BLEU is a share, 0 to 1, of whole words.
Of the test tokens 55 % are certain given their prefix (agreement, the end), and there a smoothed network cannot but
be underconfident. Perplexities of the paper (Table 1, from a survey) are of parts of words and are shown as their
logarithm. The larger scales are not the paper's either: there is no other data to train on, only more of the
sentences, wider networks and longer training.

All numbers are of the test set, about 10,600 tokens; the paper's are of its validation set. Sentences and epochs of
`quick` were chosen from three settings so that the network of hard targets is about as overconfident as the
paper's. That was seen on the test set at seed 0, with both networks in view; so seeds begin at 1.

Cost at `quick` on two CPU cores: 10 nets, about 5 minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from distill.config import (
    DataConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    TeacherConfig,
    TemperaturesProbe,
    TranslationProbe,
)
from distill.errors import UserError
from distill.reports.experiment import Claim, Published, Runs, Scale, Table
from experiments import drawing
from experiments.conditions import HARD, SMOOTHED, scaling_lowers_ece, teachers
from experiments.drawing import Axes, Figure
from experiments.reliability import FEW, reliability

SMOOTHINGS = (0.0, 0.1)
TEMPERATURES = tuple(round(2 ** (step / 5), 4) for step in range(-5, 9))
"""From 1/2 to 3, 1 among them; rounded, or a platform's last digit would make another config."""
QUALITY_TEMPERATURES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
"""Temperatures at which BLEU is measured: few, since each needs a beam search."""

FIRST_SEED = 1
"""First seed; with seed 0 the number of sentences and of epochs was chosen."""

REPRODUCES = "Figures 3 and 4"
DATA: dict[Scale, str] = dict.fromkeys(("smoke", "quick", "short", "paper"), "translation")
DATA_OF_PAPER = "WMT English-German"
_TABLE = "Müller 2019, Table 3: Transformer on English-German"
_SURVEY = "Müller 2019, Table 1 (a survey): Transformer on English-German"
_CURVES = "Müller 2019, Figure 4: Transformer on English-German"
PAPER = [
    Published(f"{_TABLE}: ECE, ε=0", 0.056, None, HARD, "ece"),
    Published(f"{_TABLE}: ECE, ε=0, scaled", 0.018, None, HARD, "scaled_ece"),
    Published(f"{_TABLE}: temperature", 1.13, None, HARD, "scaled_temperature"),
    Published(f"{_TABLE}: ECE, ε=0.1", 0.019, None, SMOOTHED, "ece"),
    Published(f"{_SURVEY}: BLEU, ε=0", 0.253, None, HARD, "bleu"),
    Published(f"{_SURVEY}: BLEU, ε=0.1", 0.258, None, SMOOTHED, "bleu"),
    Published(f"{_SURVEY}: NLL, ε=0 (perplexity 4.67)", round(math.log(4.67), 3), None, HARD, "nll"),
    Published(f"{_SURVEY}: NLL, ε=0.1 (perplexity 4.92)", round(math.log(4.92), 3), None, SMOOTHED, "nll"),
    Published(f"{_CURVES}: BLEU at the best temperature, ε=0", None, None, HARD, "bleu_highest"),
    Published(f"{_CURVES}: BLEU at the best temperature, ε=0.1", None, None, SMOOTHED, "bleu_highest"),
    Published(f"{_CURVES}: NLL at the best temperature, ε=0", None, None, HARD, "lowest_nll"),
    Published(f"{_CURVES}: NLL at the best temperature, ε=0.1", None, None, SMOOTHED, "lowest_nll"),
]
# fmt: off
CLAIMS = [
    Claim("smoothing-ece", "smoothing lowers the ECE of next tokens", "ece", SMOOTHED, HARD, "lower"),
    scaling_lowers_ece("scaling-ece", "temperature scaling lowers the ECE of the network of hard targets"),
    Claim("smoothing-bleu", "smoothing raises BLEU", "bleu", SMOOTHED, HARD, "higher"),
    Claim("scaling-bleu", "no temperature raises the BLEU of hard targets to that of smoothing", "bleu_highest",
          HARD, SMOOTHED, "lower", "bleu"),
    Claim("smoothing-nll", "smoothing raises the NLL", "nll", SMOOTHED, HARD, "higher"),
    Claim("lowest-nll",
          "each network at its best temperature, that of hard targets has the lower NLL (the paper: at every one)",
          "lowest_nll", HARD, SMOOTHED, "lower"),
]
# fmt: on


class Size(NamedTuple):
    """The numbers that differ between scales."""

    sentences: int | None
    """Number of training sentences; None takes all that are not held out."""
    width: int
    batch: int
    epochs: int
    seeds: int
    decoded: int
    """Number of sentences for BLEU."""


SIZES: dict[Scale, Size] = {
    "smoke": Size(300, 32, 32, 4, 1, 8),
    "quick": Size(1500, 64, 64, 40, 5, 1200),
    "short": Size(None, 128, 64, 60, 5, 1200),
    "paper": Size(None, 256, 64, 100, 5, 1200),
}


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label.

    Raises:
        UserError: the data are not `translation`, which alone has a target sentence.
    """
    _check(data)
    size = SIZES[scale]
    teacher = TeacherConfig(
        data=DataConfig(name=data, limit=size.sentences),
        model=ModelConfig(name="transformer", kwargs={"width": size.width}),
        # Vaswani et al. 2017, section 5.3, but for the shape of the decay.
        optim=OptimConfig(name="adam", lr=3e-3, kwargs={"betas": [0.9, 0.98], "eps": 1e-9}),
        schedule=ScheduleConfig(epochs=size.epochs, batch_size=size.batch, warmup_epochs=size.epochs / 10),
    )
    return teachers(teacher, range(FIRST_SEED, FIRST_SEED + size.seeds), SMOOTHINGS)


def probes(scale: Scale, data: str) -> tuple[TemperaturesProbe, TranslationProbe]:
    """Measure NLL, ECE and BLEU at each temperature, and temperature scaling."""
    _check(data)
    at = (1.0, 2.0) if scale == "smoke" else QUALITY_TEMPERATURES
    beams = TranslationProbe(temperatures=at, sentences=SIZES[scale].decoded)
    return TemperaturesProbe(temperatures=TEMPERATURES), beams


def _check(data: str) -> None:
    if data != "translation":
        raise UserError("data", data, "translation, which this experiment is about", "Leave `data` unset.")


_RELIABILITY = (
    "Reliability of the next token, given the correct prefix: accuracy against mean confidence in each of 15 "
    "bins, all seeds together; below the diagonal a network is overconfident. Dashed: hard targets, logits "
    "divided by the temperature that was fitted on held-out sentences (mean over seeds). Bins with fewer than "
    f"{FEW} predictions are pale. Beside each name the ECE in %, mean over seeds with 95 % "
    "interval. Below: the share of predictions in each bin, on a log scale."
)


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report: Figure 3, the left and centre panels of Figure 4, and its right panel."""
    return {
        "reliability": reliability(table, _RELIABILITY),
        "ece_and_bleu": _ece_and_bleu(table),
        "nll": _nll(table),
    }


def _ece_and_bleu(table: Table) -> Figure:
    """Draw ECE and BLEU of each network against the temperature."""
    figure = drawing.new_figure(
        3.7,
        "ECE of next tokens and BLEU of beam search when logits are divided by a temperature: means over seeds "
        "with 95 % intervals as bands; ECE on a log scale. Dotted: T=1, the networks as they are.",
    )
    ece, bleu = figure.subplots(1, 2)
    for series in drawing.series_of(table):
        drawing.band(ece, table, series, "temperatures", "ece_by_temperature", 100)
        drawing.band(bleu, table, series, "quality_temperatures", "bleu_by_temperature", 100, markersize=5)
    _finish(ece, "ECE, %")
    _finish(bleu, "BLEU, %")
    if ece.has_data():
        drawing.logarithmic(ece, (1, 2, 3, 5))
    drawing.legend_below(figure)
    return figure


def _nll(table: Table) -> Figure:
    """Draw NLL of each network against the temperature, and that of the true distribution."""
    figure = drawing.new_figure(
        3.9,
        "NLL of next tokens, on a log scale, when logits are divided by a temperature: means over seeds with 95 % "
        "intervals as bands. Dotted: T=1, the networks as they are. Dashed: the NLL of the true distribution of "
        "translations, which no network can beat but by chance.",
    )
    axes = figure.subplots()
    for series in drawing.series_of(table):
        drawing.band(axes, table, series, "temperatures", "nll_by_temperature")
    oracle = table.by_seed(HARD, "oracle_nll") | table.by_seed(SMOOTHED, "oracle_nll")
    for height in list(oracle.values())[:1]:
        axes.axhline(height, color="#555555", linestyle="--", linewidth=1.2, label="true distribution")
    _finish(axes)
    if axes.has_data():
        drawing.logarithmic(axes, (1, 2, 3, 5))
    axes.set_ylabel("NLL, nats per token")
    drawing.legend_below(figure)
    return figure


def _finish(axes: Axes, title: str = "") -> None:
    """Finish axes against the temperature."""
    if drawing.is_empty(axes):
        return
    drawing.heading(axes, title)
    axes.axvline(1, color="#555555", linestyle=":", linewidth=1)
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    ticks = {0.5: "½", 0.7: "0.7", 1: "1", 1.4: "1.4", 2: "2", 3: "3"}
    inside = [at for at in ticks if low <= at <= high]
    axes.set_xticks(inside, [ticks[at] for at in inside])
    axes.minorticks_off()
    axes.set_xlabel("temperature")
    drawing.open_frame(axes)
