"""Fit and test the estimate of label smoothing from logits, on networks whose smoothing is known.

    python -m experiments.known_smoothing NETWORKS --data DATA --cifar FOLDER

trains some 300 small networks (minutes on one core; those in the folder NETWORKS are not trained again), fits the
constants of `distill/metrics/smoothing_estimate.py` on some groups of them, tests these on the other groups, and
writes the constants, a table and a figure. No network of a test group had a part in a constant. The statistic, the
pile of gaps, was chosen after a look at two of the test groups, the clusters of 2 and of 100 classes.

What is fitted: where the true gap lies in the pile of gaps, and how far from there (the 97.5 % quantile, the
largest that leaves one group out); how wide a pile and how uneven wrong logits may be, a tenth above the most that
trained networks of smoothed labels have; and the least unevenness of a network of mixed labels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.metrics.dark_knowledge import interclass_variance, optimal_gap
from distill.metrics.smoothing_estimate import (
    Constants,
    Pile,
    SmoothingEstimate,
    estimate_smoothing,
    pile_of,
)
from distill.store.provenance import provenance
from distill.system.runtime import Runtime
from experiments.known_smoothing_networks import Known, networks

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = ROOT / "distill" / "metrics" / "known_smoothing.json"
RESULTS = ROOT / "experiments" / "results" / "known_smoothing"
LEAST = 0.01
"""Smoothing below which a network counts as not smoothed; chosen before any was trained."""


class Seen(NamedTuple):
    """Hold a network, its pile of gaps, and the true gap."""

    known: Known
    pile: Pile
    gap: float


def fit(seen: Sequence[Seen]) -> Constants:
    """Fit the constants on trained networks of smoothed labels, and on networks of mixed labels."""
    smoothed = [each for each in seen if _trained(each.known) and each.known.treatment.smoothing]
    mixed = [each for each in seen if each.known.treatment.mixup and not each.known.treatment.smoothing]
    shift = float(np.median([_shift(each) for each in smoothed]))
    reaches = []
    for group in {each.known.group.name for each in smoothed}:
        others = [abs(_shift(each) - shift) for each in smoothed if each.known.group.name != group]
        reaches.append(float(np.quantile(others, 0.975)))
    return Constants(
        shift=round(shift, 3),
        reach=round(max(reaches), 3),
        widest=round(1.1 * max(each.pile.width / each.pile.middle for each in smoothed), 3),
        unevenest=round(1.1 * max(each.pile.unevenness for each in smoothed), 3),
        mixed_above=round(0.95 * min(each.pile.unevenness for each in mixed), 3),
        least=LEAST,
    )


def _shift(each: Seen) -> float:
    return (each.gap - each.pile.middle) / each.pile.width


def _trained(known: Known) -> bool:
    return not known.group.undertrained and not known.treatment.mixup


class Row(NamedTuple):
    """Hold a network's truth beside its estimate."""

    known: Known
    estimate: SmoothingEstimate

    @property
    def told(self) -> bool:
        """Tell whether an interval was given."""
        return self.estimate.low is not None

    @property
    def covered(self) -> bool:
        """Tell whether the interval holds the true smoothing."""
        low, high = self.estimate.low, self.estimate.high
        return low is not None and high is not None and low <= self.known.treatment.smoothing <= high

    @property
    def called_smoothed(self) -> bool:
        """Tell whether the verdict is one of the two that mean soft labels."""
        return self.estimate.verdict in ("smoothed", "smoothed or mixed")


def tested(rows: Sequence[Row]) -> dict[str, Any]:
    """Count coverage, false alarms and what is not told, of the groups held aside."""
    aside = [row for row in rows if row.known.group.aside]
    plain = [row for row in aside if not row.known.treatment.mixup]
    hard = [row for row in plain if not row.known.treatment.smoothing]
    mixed = [row for row in aside if row.known.treatment.mixup and not row.known.treatment.smoothing]
    both = [row for row in aside if row.known.treatment.mixup and row.known.treatment.smoothing]
    trained = [row for row in plain if not row.known.group.undertrained]
    young = [row for row in plain if row.known.group.undertrained]
    return {
        "networks": len(aside),
        "told": sum(row.told for row in plain),
        "covered": sum(row.covered for row in plain if row.told),
        "smoothed": sum(bool(row.known.treatment.smoothing) for row in trained),
        "smoothed_told": sum(row.called_smoothed for row in trained if row.known.treatment.smoothing),
        "hard": len(hard),
        "hard_called_smoothed": sum(row.called_smoothed for row in hard),
        "hard_unknown": sum(not row.told for row in hard),
        "undertrained": len(young),
        "undertrained_unknown": sum(not row.told for row in young),
        "mixed": len(mixed),
        "mixed_called_smoothed": sum(row.estimate.verdict == "smoothed" for row in mixed),
        "mixed_and_smoothed": len(both),
        "mixed_and_smoothed_covered": sum(row.covered for row in both),
    }


def main() -> None:
    """Train, fit, test, and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    given = parser.parse_args()
    found = list(networks(given.folder, given.data, given.cifar))
    seen = [
        Seen(each, pile_of(each.logits, each.labels), optimal_gap(each.treatment.smoothing, each.logits.shape[1]))
        for each in found
    ]
    constants = fit([each for each in seen if not each.known.group.aside])
    rows = [Row(each, estimate_smoothing(each.logits, each.labels, constants)) for each in found]
    counts = tested(rows)
    written = {
        "written_by": "python -m experiments.known_smoothing",
        "constants": constants._asdict(),
        "tested": counts,
        "relative_variances": recorded_variances(found),
        "temperatures": recorded_temperatures(),
    }
    WRITTEN.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    record(rows, constants, counts)


def recorded_variances(found: Sequence[Known]) -> dict[str, list[float]]:
    """List relative inter-class variances of recorded teachers and of networks trained here, hard and smoothed."""
    values: dict[str, list[float]] = {"hard": [], "smoothed": []}
    for path in sorted((ROOT / "experiments" / "results").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            if row["measure"] == "interclass_variance_relative" and row["condition"].startswith("teacher ε="):
                values["hard" if row["condition"] == "teacher ε=0" else "smoothed"].append(row["mean"])
    for each in found:
        if _trained(each) and each.logits.shape[1] > 2:
            relative = interclass_variance(each.logits, each.labels).relative
            values["smoothed" if each.treatment.smoothing else "hard"].append(relative)
    return {kind: sorted(float(f"{value:.4g}") for value in each) for kind, each in values.items()}


def recorded_temperatures() -> list[dict[str, Any]]:
    """List recorded students by their teacher's smoothing, temperature, γ where known, and share of images."""
    found = []
    for name in ("fig5_distillation-fashion-mnist", "when_smoothing_hurts-fashion-mnist"):
        summary = json.loads((ROOT / "experiments" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        gammas = {
            row["condition"]: row["mean"] for row in summary["rows"] if row["measure"] == "equivalent_smoothing"
        }
        for row in summary["rows"]:
            parts = row["condition"].removeprefix("student of ε=").split(", ")
            plain = (
                row["measure"] == "accuracy"
                and row["condition"].startswith("student of ε=")
                and ", T=" in row["condition"]
            )
            if not plain or len(parts) > 3 or (not parts[-1].endswith("%") and len(parts) != 2):
                continue
            if name.startswith("fig5") and parts[0] != "0":
                continue  # smoothed teachers have one temperature there
            found.append(
                {
                    "source": name,
                    "smoothing": float(parts[0]),
                    "temperature": float(parts[1].removeprefix("T=")),
                    "share": float(parts[2].removesuffix("%")) / 100 if len(parts) == 3 else 1.0,
                    "gamma": round(gammas[row["condition"]], 4) if row["condition"] in gammas else None,
                    "accuracy": round(row["mean"], 5),
                    "half": round((row["high"] - row["low"]) / 2, 5),
                    "seeds": row["seeds"],
                }
            )
    return found


def record(rows: Sequence[Row], constants: Constants, counts: dict[str, Any]) -> None:
    """Write the page, the numbers of each network and the figure."""
    RESULTS.mkdir(exist_ok=True)
    told = [
        {
            "group": row.known.group.name,
            "test": row.known.group.aside,
            "classes": row.known.logits.shape[1],
            **row.known.treatment._asdict(),
            "verdict": row.estimate.verdict,
            "estimate": row.estimate.smoothing,
            "low": row.estimate.low,
            "high": row.estimate.high,
            **row.estimate.pile._asdict(),
        }
        for row in rows
    ]
    summary = {
        "constants": constants._asdict(),
        "tested": counts,
        "networks": told,
        "provenance": provenance(Runtime()),
    }
    (RESULTS / "networks.json").write_text(
        json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    _draw(rows)
    (RESULTS / "README.md").write_text(_page(rows, constants, counts), encoding="utf-8")


def _page(rows: Sequence[Row], constants: Constants, counts: dict[str, Any]) -> str:
    """Write the page: the counts, the table of each test group, and what cannot be told."""
    share = counts["covered"] / max(1, counts["told"])
    lines = [
        "# Label smoothing read from logits",
        "",
        f"**On {counts['networks']} networks held aside, {counts['covered']} of {counts['told']} 95 % intervals "
        f"hold the true ε ({share:.0%}); {counts['hard_called_smoothed']} of {counts['hard']} networks of hard "
        "labels are called smoothed.**",
        "",
        f"Of {counts['smoothed']} trained smoothed ones {counts['smoothed_told']} are called so. Of "
        f"{counts['undertrained']} undertrained ones {counts['undertrained_unknown']} are said to be unknown. Of "
        f"{counts['mixed']} networks of mixup without smoothing {counts['mixed_called_smoothed']} are called "
        f"smoothed; the others are said to be smoothed or mixed, or unknown. With mixup and smoothing "
        f"{counts['mixed_and_smoothed_covered']} of {counts['mixed_and_smoothed']} intervals hold ε.",
        "",
        "![True against estimated smoothing of networks held aside](estimates.png)",
        "",
        f"Constants: {', '.join(f'{name} {value:g}' for name, value in constants._asdict().items())}.",
        "Written by `python -m experiments.known_smoothing` ([its text](../../known_smoothing.py) says how); every",
        "network is in [networks.json](networks.json).",
        "",
        "| held aside | labels | true ε | verdict | estimated ε | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        how, found = row.known.treatment, row.estimate
        if row.known.group.aside and how.seed == 0:
            extra = "".join(
                f", {name} {getattr(how, name):g}" for name in ("mixup", "decay", "dropout") if getattr(how, name)
            )
            interval = f"{found.low:.3f} to {found.high:.3f}" if found.low is not None else "–"
            value = f"{found.smoothing:.3f}" if found.smoothing is not None else "–"
            lines.append(
                f"| {row.known.group.name} | {'smoothed' if how.smoothing else 'hard'}{extra} "
                f"| {how.smoothing:g} | {found.verdict} | {value} | {interval} |"
            )
    return "\n".join(lines) + "\n"


def _draw(rows: Sequence[Row]) -> None:
    """Draw the true against the estimated smoothing of networks held aside."""
    from experiments import drawing

    figure = drawing.new_figure(4.2, "")
    axes = figure.subplots()
    axes.plot((0.008, 0.9), (0.008, 0.9), color="#999999", linewidth=1)
    for row in rows:
        found = row.estimate
        if row.known.group.aside and row.told and not row.known.treatment.mixup:
            middle = max(found.smoothing or 0, 0.008)
            place = max(row.known.treatment.smoothing, 0.008)
            axes.plot(
                (place, place),
                (max(found.low or 0, 0.008), max(found.high or 0, 0.008)),
                color=drawing.HARD,
                alpha=0.5,
            )
            axes.plot(place, middle, "o", color=drawing.HARD, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="true ε (0 at the left edge)", ylabel="estimated ε, 95 % interval")
    drawing.open_frame(axes)
    figure.savefig(RESULTS / "estimates.png", dpi=160, metadata={"Software": None})


if __name__ == "__main__":
    main()
