"""A summary as people read it: which measure in which column, in which unit, with how many digits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.errors import printable

ABSENT = "–"
"""What a cell without a value shows."""

_DATA_OF_PAPER = ("mnist", "cifar10", "cifar100")
VERDICTS = ("reproduced", "contradicted", "undecided")


@dataclass(frozen=True)
class Column:
    """How one measure is shown."""

    measure: str
    heading: str
    decimals: int
    percent: bool = False
    """Shown times 100: the measure is a share."""


@dataclass(frozen=True)
class Grid:
    """A table of text, with a caption."""

    caption: str
    header: list[str]
    rows: list[list[str]]


TEACHERS_AND_STUDENTS = (
    Column("accuracy", "accuracy %", 2, percent=True),
    Column("nll", "NLL", 3),
    Column("ece", "ECE %", 2, percent=True),
    Column("confidence", "confid. %", 2, percent=True),
    Column("interclass_variance", "variance", 2),
    Column("interclass_variance_relative", "/gap² %", 2, percent=True),
    Column("gap", "gap", 2),
    Column("optimal_gap", "optimum", 2),
    Column("agreement", "agree %", 1, percent=True),
    Column("kl", "KL", 3),
    Column("equivalent_smoothing", "γ", 3),
)
CLASS_NEVER_SEEN = (
    Column("unseen_recall", "recall %", 1, percent=True),
    Column("unseen_recall_corrected", "corrected recall %", 1, percent=True),
    Column("unseen_auc", "AUC", 3),
)
ABOVE_LABELS = (
    Column("unseen_recall_over_labels", "corrected recall, points", 1, percent=True),
    Column("unseen_auc_over_labels", "AUC", 3),
)
"""Of a class never seen: what a student has above one of labels that never saw it either."""
SOME_CLASSES_SEEN = (
    Column("pair_accuracy_corrected", "corrected accuracy %", 1, percent=True),
    Column("unseen_accuracy", "of unseen %", 1, percent=True),
    Column("unseen_among_unseen", "among unseen %", 1, percent=True),
)
"""Of a student that saw a few classes: accuracy with their bias corrected; accuracy on images of the others, as
trained, and when only the others may be answered."""
OF_CACHES = (
    Column("cache_bytes_per_view", "bytes/view", 0),
    Column("cache_tv_T1", "TV T=1 %", 3, percent=True),
    Column("cache_tv_T4", "TV T=4 %", 3, percent=True),
)
"""What students learned from: size of a view, and total variation distance of its distribution to the exact one."""
TEMPERATURE_SCALING = (
    Column("scaled_temperature", "temperature", 2),
    Column("scaled_ece", "scaled ECE %", 2, percent=True),
    Column("scaled_nll", "scaled NLL", 3),
    Column("lowest_nll", "lowest NLL", 3),
)
"""At the temperature that held-out images choose; the lowest NLL is that of all temperatures on the test set."""
CALIBRATION = (
    Column("ece_equal_mass", "ECE, equal mass %", 2, percent=True),
    Column("ece_classwise", "classwise ECE %", 3, percent=True),
    Column("ece_adaptive", "adaptive ECE %", 3, percent=True),
    Column("brier", "Brier", 3),
)
"""Other errors of calibration than the ECE of the largest probability with bins of equal width."""


def _scaling_columns(method: str) -> tuple[Column, ...]:
    return (
        Column(f"{method}_ece", f"ECE, {method} %", 2, percent=True),
        Column(f"{method}_ece_classwise", f"classwise ECE, {method} %", 3, percent=True),
        Column(f"{method}_nll", f"NLL, {method}", 3),
        Column(f"{method}_brier", f"Brier, {method}", 3),
        Column(f"{method}_accuracy", f"accuracy, {method} %", 2, percent=True),
    )


SCALING = (
    Column("temperature_fitted", "fitted temperature", 2),
    *(column for method in ("temperature", "vector", "platt") for column in _scaling_columns(method)),
)
"""Of the test set after a map of logits that was fitted on held-out images."""
PENULTIMATE = (
    Column("compactness_train", "compactness, train", 3),
    Column("compactness_held_out", "compactness, held out", 3),
    Column("scatter_train", "scatter, train", 3),
    Column("scatter_held_out", "scatter, held out", 3),
    Column("imbalance_train", "imbalance, train", 3),
    Column("imbalance_held_out", "imbalance, held out", 3),
)
INFORMATION = (
    Column("information_first", "start", 3),
    Column("information_early", "early", 3),
    Column("information_late", "late", 3),
    Column("information_peak", "peak", 3),
    Column("information_final", "end", 3),
    Column("information_drop", "drop", 3),
    Column("information_floor", "collapsed", 3),
    Column("information_log_n", "log N", 3),
)
"""In nats, along training; collapsed is what two clusters without any spread would give."""
DARK_KNOWLEDGE = (
    Column("bits_beyond_top1", "bits beyond top-1", 3),
    Column("conditional_mutual_information", "CMI", 3),
    Column("nontarget_entropy", "non-target entropy", 3),
    Column("aggregated_variance", "variance in class", 4),
    Column("similarity_independent", "similarity, other seed", 3),
)
"""Of the distribution at T=1, in bits and nats; the last is rank correlation with another run of the recipe."""
FIDELITY = (
    Column("agreement_independent", "agree, other seed %", 1, percent=True),
    Column("kl_independent", "KL, other seed", 3),
    Column("target_divergence", "TCKD", 3),
    Column("nontarget_divergence", "NCKD", 3),
    Column("deviation_ratio", "deviation ratio", 2),
    Column("similarity_correlation", "similarity", 3),
)
"""To the teacher, at T=1, and to a run of the teacher's recipe with another seed, which nobody learned from."""
KNOWLEDGE = (
    Column("bits_beyond_top1_held_out", "bits beyond top-1, held out", 3),
    Column("conditional_mutual_information_train", "CMI, train", 3),
    Column("nontarget_entropy_train", "non-target entropy, train", 3),
    Column("aggregated_variance_train", "variance in class, train", 4),
    Column("class_separation_train", "R², train", 3),
    Column("within_class_collapse_train", "NC1, train", 3),
    Column("equiangular_distance_train", "NC2", 3),
    Column("duality_distance_train", "NC3, train", 3),
    Column("nearest_centre_agreement_train", "NC4, train %", 1, percent=True),
)
"""Of images as they are: what the probe of all measures found, in part."""
PREDICTION = (
    Column("concordance_T1", "concordance, T=1 %", 1, percent=True),
    Column("concordance_T4", "concordance, T=4 %", 1, percent=True),
    Column("rank_correlation_T1", "rank correlation, T=1", 2),
    Column("rank_correlation_T4", "rank correlation, T=4", 2),
)
"""Of a measure of teachers with what their students gain over labels."""
MEMORISATION = (
    Column("held_out_accuracy_clean", "held-out, right labels %", 2, percent=True),
    Column("fitted_right", "fitted, right labels %", 2, percent=True),
    Column("memorised", "memorised %", 2, percent=True),
    Column("recovered", "recovered %", 2, percent=True),
    Column("wrong_labels", "wrong labels %", 2, percent=True),
)
"""Of a training set with wrong labels: of the images that have one, which share is answered by it, and which by the
right class."""
CHOSEN_SMOOTHING = (Column("chosen_smoothing", "chosen ε", 3),)
"""What is taken of several strengths of smoothing, for one use."""
AT_THE_OPTIMUM = (
    Column("reached_gap", "gap", 3),
    Column("reached_optimum", "optimum", 3),
    Column("reached_share", "share %", 2, percent=True),
    Column("reached_probability", "label's prob. %", 2, percent=True),
    Column("reached_ceiling", "target %", 2, percent=True),
)
"""Of training images: the gap that a network of smoothed labels reached, beside the one that minimises its loss."""
TRANSLATION = (
    Column("bleu", "BLEU", 1, percent=True),
    Column("bleu_highest", "highest BLEU", 1, percent=True),
    Column("exact_match", "exact %", 1, percent=True),
    Column("possible_translation", "possible %", 1, percent=True),
    Column("oracle_nll", "oracle NLL", 3),
)
"""Of sentences found by beam search at T=1, BLEU as usual times 100; the highest is that of all temperatures. The
oracle's NLL, per token, is that of the true distribution."""
WITHOUT_COLUMN = (
    Column("held_out_accuracy", "held-out accuracy %", 2, percent=True),
    Column("held_out_ece", "held-out ECE %", 2, percent=True),
    Column("held_out_interclass_variance_relative", "held-out /gap² %", 2, percent=True),
    Column("accuracy_lost", "accuracy lost, points", 2, percent=True),
    *(
        Column(f"cost_T{temperature}", f"cost at T={temperature}, points", 2, percent=True)
        for temperature in (1, 2, 4, 16)
    ),
    Column("gain", "gain, points", 2, percent=True),
    Column("gain_over_labels", "gain over labels, points", 2, percent=True),
    Column("accuracy_gap", "gap, points", 2, percent=True),
    Column("accuracy_gap_best", "gap to the best T, points", 2, percent=True),
    Column("accuracy_gap_same_remedy", "gap, same remedy, points", 2, percent=True),
    Column("chosen_temperature", "chosen temperature", 2),
    Column("confidence_gap", "accuracy − confid., points", 2, percent=True),
    Column("interclass_variance_within", "variance within a class", 2),
    Column("interclass_variance_between", "variance between classes", 2),
)
_COLUMNS = {
    column.measure: column
    for columns in (
        TEACHERS_AND_STUDENTS,
        CLASS_NEVER_SEEN,
        ABOVE_LABELS,
        SOME_CLASSES_SEEN,
        OF_CACHES,
        TEMPERATURE_SCALING,
        CALIBRATION,
        SCALING,
        PENULTIMATE,
        INFORMATION,
        TRANSLATION,
        DARK_KNOWLEDGE,
        FIDELITY,
        KNOWLEDGE,
        PREDICTION,
        MEMORISATION,
        CHOSEN_SMOOTHING,
        AT_THE_OPTIMUM,
        WITHOUT_COLUMN,
    )
    for column in columns
}
_NAMED = ("accuracy", "nll", "ece", "kl", "scaled_ece", "scaled_nll", "lowest_nll", "bleu", "bleu_highest")
"""Measures whose heading says what they are without the table around it."""
_ANY = Column("", "", 3)
"""How a measure without a column is shown."""
MEASURES = tuple(_COLUMNS)
"""Measures in the order in which reports list them; others follow by name."""


def columns_of(*measures: str) -> tuple[Column, ...]:
    """How these measures are shown, in this order."""
    return tuple(_COLUMNS[measure] for measure in measures)


def comparison(
    summary: Mapping[str, Any], columns: Sequence[Column], caption: str, beside: Sequence[Column] = ()
) -> Grid | None:
    """Conditions as rows and measures as columns: mean ± half of the 95 % interval, and the number of seeds.

    Args:
        summary: of a report.
        columns: what the table is about.
        caption: of the table.
        beside: shown before them, for comparison.

    Returns:
        The table without the columns that nothing fills, and without conditions of which only what stands beside is
        known; None if nothing is left.
    """
    found = {(row["condition"], row["measure"]): row for row in summary["rows"]}
    measured, about = {measure for _, measure in found}, {column.measure for column in columns}
    if measured.isdisjoint(about):
        return None
    shown = [column for column in (*beside, *columns) if column.measure in measured]
    rows = []
    for condition in dict.fromkeys(condition for condition, _ in found):
        cells = [found.get((condition, column.measure)) for column in shown]
        if any(cell and cell["measure"] in about for cell in cells):
            texts = [_mean(cell, column) for cell, column in zip(cells, shown, strict=True)]
            rows.append([condition, _seeds([cell["seeds"] for cell in cells if cell]), *texts])
    return Grid(caption, ["condition", "seeds", *(column.heading for column in shown)], rows)


def main_tables(summary: Mapping[str, Any]) -> list[Grid]:
    """The result tables: what every network is measured by, then each subject that some network is measured by."""
    tables = (
        comparison(summary, TEACHERS_AND_STUDENTS, "Teachers and students"),
        comparison(summary, CLASS_NEVER_SEEN, "A class never seen in the transfer set"),
        comparison(summary, ABOVE_LABELS, "A class never seen: what exceeds the student of labels"),
        comparison(summary, SOME_CLASSES_SEEN, "Only some classes in the transfer set"),
        _by_cache(summary),
        comparison(summary, TEMPERATURE_SCALING, "Temperature scaling", beside=columns_of("ece", "nll")),
        comparison(summary, CALIBRATION, "Calibration", beside=columns_of("ece", "nll")),
        *(
            comparison(summary, columns, f"{method.capitalize()} scaling, fitted on held-out images")
            for method in ("temperature", "vector", "platt")
            if (columns := [column for column in SCALING if column.measure.startswith(f"{method}_")])
        ),
        comparison(summary, PENULTIMATE, "Penultimate activations"),
        comparison(summary, INFORMATION, "Mutual information"),
        comparison(summary, TRANSLATION, "Translation"),
        comparison(summary, DARK_KNOWLEDGE, "Dark knowledge"),
        comparison(summary, FIDELITY, "Fidelity to the teacher", beside=columns_of("agreement", "kl")),
        comparison(summary, KNOWLEDGE, "Knowledge and geometry, training and held-out images"),
        comparison(summary, PREDICTION, "What predicts the gain"),
        comparison(summary, CHOSEN_SMOOTHING, "Smoothing chosen", beside=columns_of("accuracy", "ece")),
        comparison(summary, AT_THE_OPTIMUM, "Where smoothed training ends, training images"),
        comparison(summary, MEMORISATION, "Wrong labels", beside=columns_of("accuracy", "held_out_accuracy")),
    )
    return [table for table in tables if table]


def paper_table(summary: Mapping[str, Any], only_numbers: bool = False) -> Grid | None:
    """What the paper prints beside what was measured here; None if there is nothing to show.

    Args:
        summary: of a report; older ones have no published numbers.
        only_numbers: leave out what is only drawn, and what nothing here corresponds to.
    """
    rows = []
    for entry in summary.get("published", []):
        column = _COLUMNS.get(entry["measure"], _ANY)
        measured = entry["mean"] is not None
        if not only_numbers or (measured and entry["value"] is not None):
            ours = _with_unit(_mean(entry, column), column)
            seeds = str(entry["seeds"]) if measured else ABSENT
            rows.append([entry["source"], _printed(entry, column), ours, seeds, _measured_as(entry)])
    return Grid("The paper and ours", ["source", "paper", "ours", "seeds", "ours is"], rows) if rows else None


def _printed(entry: Mapping[str, Any], column: Column) -> str:
    """A published value with as many digits as were given, in the unit of the column."""
    value, half = entry["value"], entry["half_width"]
    if value is None:
        return "only drawn"
    if isinstance(value, str):
        return value
    scale = 100 if column.percent else 1
    text = _minus(f"{scale * value:.10g}") + ("" if half is None else f"±{scale * half:.10g}")
    return _with_unit(text, column)


def _with_unit(text: str, column: Column) -> str:
    return f"{text} %" if column.heading.endswith("%") and text != ABSENT else text


def _measured_as(entry: Mapping[str, Any]) -> str:
    """Which measure of which condition stands beside a published value."""
    if entry["condition"] is None:
        return ABSENT
    return f"{_name(entry['measure'])} of {entry['condition']}" if entry["measure"] else entry["condition"]


def _name(measure: str) -> str:
    """A measure in words, without a unit."""
    return _COLUMNS[measure].heading.removesuffix(" %") if measure in _NAMED else measure.replace("_", " ")


def _by_cache(summary: Mapping[str, Any]) -> Grid | None:
    """What caches hold, beside what came of it; None if all are of one size, so that nothing is compared."""
    sizes = {row["mean"] for row in summary["rows"] if row["measure"] == "cache_bytes_per_view"}
    if len(sizes) < 2:
        return None
    of_students = columns_of("accuracy", "nll", "agreement", "kl", "interclass_variance_relative")
    return comparison(summary, (*OF_CACHES, *of_students), "Caches and what came of them")


def all_rows(summary: Mapping[str, Any]) -> Grid:
    """Every row of the summary, one measure of one condition each, in its own unit."""
    rows = [
        [
            row["measure"],
            row["condition"],
            *(_plain(row[name]) for name in ("mean", "low", "high")),
            str(row["seeds"]),
        ]
        for row in summary["rows"]
    ]
    return Grid("Every measure", ["measure", "condition", "mean", "low", "high", "seeds"], rows)


def diverged_table(summary: Mapping[str, Any]) -> Grid | None:
    """The runs that no mean includes, with the reason; None if there are none."""
    rows = [
        [
            run["condition"],
            str(run["seed"]),
            ABSENT if run["unseen"] is None else str(run["unseen"]),
            run["reason"],
        ]
        for run in summary["diverged"]
    ]
    caption = "Diverged runs, left out of every mean"
    return Grid(caption, ["condition", "seed", "class left out", "reason"], rows) if rows else None


def evidence(claim: Mapping[str, Any]) -> str:
    """What a verdict rests on: "effect −1.23 [−1.4, −1.1], p < 0.001, 10 seeds"."""
    seeds = f"{claim['seeds']} seed" + ("" if claim["seeds"] == 1 else "s")
    if claim["effect"] is None:
        return f"nothing to compare, {seeds}"
    column = _COLUMNS.get(claim["measure"])
    scale, unit = (100, " points") if column and column.percent else (1, "")
    text = f"effect {_signed(scale * claim['effect'])}{unit}"
    if claim["low"] is not None and claim["high"] is not None:
        text += f" [{_signed(scale * claim['low'])}, {_signed(scale * claim['high'])}]"
    if claim["p"] is not None:
        text += ", p < 0.001" if claim["p"] < 0.001 else f", p = {claim['p']:.2g}"
    return f"{text}, {seeds}"


@dataclass(frozen=True)
class Overview:
    """A report in one line."""

    counts: dict[str, int]
    """Verdict → number of claims."""
    seeds: str
    """One number, or the fewest and the most."""
    minutes: str


def overview_of(summary: Mapping[str, Any]) -> Overview:
    """How many claims got which verdict, over how many seeds, in how many minutes."""
    counts: dict[str, int] = dict.fromkeys(VERDICTS, 0)
    for claim in summary["claims"]:
        counts[claim["verdict"]] += 1
    seeds = _seeds([row["seeds"] for row in summary["rows"]] or [0])
    minutes = summary["provenance"].get("minutes")
    return Overview(counts, seeds, ABSENT if minutes is None else f"{minutes:.{0 if minutes >= 10 else 1}f}")


def place(summary: Mapping[str, Any]) -> tuple[float, str, str]:
    """Sorts by the first number of what an experiment reproduces; questions of our own come last."""
    number = re.search(r"\d+", summary["reproduces"])
    return float(number[0]) if number else math.inf, summary["reproduces"], summary["experiment"]


def caution(summary: Mapping[str, Any]) -> str:
    """A sentence where data, networks or schedules are not the paper's; else nothing."""
    of_paper, data, scale = summary["data_of_paper"], summary["data"], summary["scale"]
    if of_paper is None:
        return ""
    if data != of_paper or data not in _DATA_OF_PAPER:
        return f"Measured on {data}, which is not the paper's data: compare directions, not numbers."
    if scale != "paper":
        return f"Measured at scale {scale}, not with the paper's schedules: compare directions, not numbers."
    return ""


def with_evidence(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The claims of a summary, each with what its verdict rests on in words."""
    return [{**claim, "evidence": evidence(claim)} for claim in summary["claims"]]


def format_summary(summary: Mapping[str, Any]) -> str:
    """The summary for a terminal: result tables, one line per verdict, and the diverged runs if any."""
    blocks = [aligned(table) for table in main_tables(summary)]
    paper = paper_table(summary, only_numbers=True)
    if paper:
        blocks.append(aligned(paper))
    if summary["claims"]:
        blocks.append(_verdicts(summary["claims"]))
    diverged = diverged_table(summary)
    if diverged:
        blocks.append(aligned(diverged))
    return "\n\n".join(blocks) + "\n"


def format_overview(summaries: Sequence[Mapping[str, Any]]) -> str:
    """A line per report for a terminal: what it reproduces, on what, and how its claims fared."""
    rows = []
    for summary in sorted(summaries, key=place):
        found = overview_of(summary)
        counts = map(str, found.counts.values())
        rows.append(
            [
                summary["experiment"],
                summary["reproduces"] or ABSENT,
                summary["data"],
                found.seeds,
                *counts,
                found.minutes,
            ]
        )
    header = ["experiment", "in the paper", "data", "seeds", *VERDICTS, "minutes"]
    return aligned(Grid("All experiments", header, rows)) + "\n"


def _verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """One line per claim."""
    width = max(len(claim["statement"]) for claim in claims)
    return "\n".join(f"{claim['verdict']:<14}{claim['statement']:<{width}}   {evidence(claim)}" for claim in claims)


def aligned(table: Grid) -> str:
    """Monospace columns: text to the left, numbers to the right."""
    lines = [[printable(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    numeric = [_numeric(table, index) for index in range(len(widths))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([printable(table.caption), rule, line(lines[0]), rule, *map(line, lines[1:])])


def _numeric(table: Grid, index: int) -> bool:
    """Whether a column starts with a digit or is absent in each of its cells."""
    return all(row[index] == ABSENT or row[index].lstrip("−")[:1].isdigit() for row in table.rows)


def _mean(row: Mapping[str, Any] | None, column: Column) -> str:
    """Mean ± half-interval in the column's unit; no interval where there is none (one seed, or a constant)."""
    if row is None or row["mean"] is None:
        return ABSENT
    scale = 100 if column.percent else 1
    text = _minus(f"{scale * row['mean']:.{column.decimals}f}")
    if row["low"] is None or row["high"] is None or row["high"] == row["low"]:
        return text
    return f"{text}±{scale * (row['high'] - row['low']) / 2:.{column.decimals}f}"


def _seeds(counts: Sequence[int]) -> str:
    """How many seeds a line of means rests on: one number, or a range."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def _plain(value: float | None) -> str:
    return ABSENT if value is None else _minus(f"{value:.4g}")


def _signed(value: float) -> str:
    # Differences that cancel leave a rounding error, which would read as a number; the sum turns -0 into 0.
    return _minus(f"{round(value, 12) + 0.0:+.3g}")


def _minus(text: str) -> str:
    return text.replace("-", "−")
