"""Print the recorded results as Markdown, for README.md and experiments/results/README.md.

Names of experiments as arguments print only the results of these experiments. `--paper` prints every claim of the
paper with its verdict. README.md shows the output of `--paper` and of `dark_knowledge`.

To record a run, `--record checkpoints/reports/<report>` keeps its `summary.json` as
`experiments/results/<experiment>-<data>.json`. Of an experiment with thousands of rows it keeps only the rows that
are shown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from distill.metrics.measures import MEASURES
from distill.probes import PROBES, probe_measures
from distill.reports.columns import as_columns, read_columns
from distill.reports.experiment_files import experiment_names, load_experiment
from distill.reports.tables import Grid, caution, comparison, paper_order, paper_table, with_evidence

FOLDER = Path(__file__).parents[1] / "experiments" / "results"
MOST_ROWS = 1000
"""Number of rows beyond which a recorded run keeps only the rows that are shown."""


class Section(NamedTuple):
    """How the results of one experiment are shown."""

    heading: str | None
    tables: Mapping[str, tuple[str, ...]]
    """Caption → measures, one table per data set."""
    beside: Mapping[str, tuple[str, ...]] = {}
    """Caption → further measures in the first columns, for conditions that have any of the measures in `tables`."""


CLASS_NEVER_SEEN = ("unseen_recall", "unseen_recall_corrected", "unseen_auc")
PENULTIMATE = tuple(
    f"{name}_{split}" for name in ("compactness", "scatter", "imbalance") for split in ("train", "held_out")
)
INFORMATION = tuple(
    f"information_{name}" for name in ("first", "early", "late", "peak", "final", "drop", "floor", "log_n")
)
TRANSLATION = ("bleu", "bleu_highest", "exact_match", "possible_translation", "oracle_nll")
PREDICTION = ("concordance_T1", "concordance_T4", "rank_correlation_T1", "rank_correlation_T4")
AT_THE_OPTIMUM = tuple(f"reached_{name}" for name in ("gap", "optimum", "share", "probability", "ceiling"))
MEMORISATION = ("held_out_accuracy_clean", "fitted_right", "memorised", "recovered", "wrong_labels")
TEMPERATURE_SCALING = ("scaled_temperature", "scaled_ece", "scaled_nll", "lowest_nll")

SECTIONS = {
    "dark_knowledge": Section(
        None,
        {
            "all classes": (
                "accuracy",
                "nll",
                "ece",
                "interclass_variance",
                "interclass_variance_relative",
                "gap",
                "agreement",
            ),
            "a class never seen": CLASS_NEVER_SEEN,
        },
    ),
    "fig1_penultimate": Section(
        "Figure 1: penultimate activations (`experiments/fig1_penultimate.py`)",
        {
            "penultimate activations": (
                "accuracy",
                *PENULTIMATE,
            )
        },
    ),
    "fig2_calibration": Section(
        "Figure 2 and Table 3: calibration (`experiments/fig2_calibration.py`)",
        {"calibration": ("accuracy", "nll", "ece", *TEMPERATURE_SCALING)},
    ),
    "table2_accuracy": Section(
        "Table 2: accuracy (`experiments/table2_accuracy.py`)",
        {"accuracy": ("accuracy", "nll", "ece")},
    ),
    "fig3_sequence": Section(
        "Figures 3 and 4: translation (`experiments/fig3_sequence.py`)",
        {
            "next tokens": ("nll", "ece", *TEMPERATURE_SCALING),
            "sentences": TRANSLATION,
        },
    ),
    "mnist_distillation": Section(
        "Section 4: distillation on MNIST (`experiments/mnist_distillation.py`)",
        {"distillation": ("accuracy", "nll", "ece", "agreement", "kl")},
    ),
    "fig5_distillation": Section(
        "Figure 5: distillation (`experiments/fig5_distillation.py`)",
        {"distillation": ("equivalent_smoothing", "accuracy", "nll", "ece", "agreement")},
    ),
    "fig6_mutual_information": Section(
        "Figure 6: mutual information (`experiments/fig6_mutual_information.py`)",
        {
            "mutual information": (
                "accuracy",
                *INFORMATION,
            )
        },
    ),
    "when_smoothing_hurts": Section(
        "Should I smooth my teacher? (`experiments/when_smoothing_hurts.py`)",
        {
            "what smoothing costs, points of accuracy": ("cost_T1", "cost_T2", "cost_T4", "cost_T16"),
            "each teacher at its best temperature": ("gain_over_labels",),
        },
        {"each teacher at its best temperature": ("accuracy", "held_out_accuracy")},
    ),
    "chandrasegaran2022": Section(
        "Chandrasegaran et al. 2022: temperature (`experiments/chandrasegaran2022.py`)",
        {
            "teachers and students": ("accuracy", "nll", "ece", "agreement", "agreement_independent"),
        },
    ),
    "shen2021": Section(
        "Shen et al. 2021: intra-class variance (`experiments/shen2021.py`)",
        {
            "teachers and students": (
                "accuracy",
                "aggregated_variance_train",
                "aggregated_variance",
                "agreement",
                "agreement_independent",
            )
        },
    ),
    "restore": Section(
        "Giving dark knowledge back (`experiments/restore.py`)",
        {
            "remedies": ("accuracy", "nll", "ece", "interclass_variance_relative", "bits_beyond_top1"),
            "gaps": ("accuracy_gap", "accuracy_gap_best", "accuracy_gap_same_remedy"),
        },
    ),
    "unseen_class": Section(
        "Classes never seen (`experiments/unseen_class.py`)",
        {
            "a class never seen": CLASS_NEVER_SEEN,
            "above the student of labels": ("unseen_recall_over_labels", "unseen_auc_over_labels"),
            "only two classes seen": ("pair_accuracy_corrected", "unseen_accuracy", "unseen_among_unseen"),
        },
        {"only two classes seen": ("accuracy",)},
    ),
    "bits_of_dark_knowledge": Section(
        "What predicts the gain (`experiments/bits_of_dark_knowledge.py`)",
        {"measures of teachers": PREDICTION},
    ),
    "smoothing_theory": Section(
        "Label smoothing worked through (`experiments/smoothing_theory.py`)",
        {"training to the optimum": AT_THE_OPTIMUM},
    ),
    "smoothing_sweep": Section(
        "How much smoothing, for what use (`experiments/smoothing_sweep.py`)",
        {
            "teachers and students": ("accuracy", "nll", "ece", "confidence", "interclass_variance_relative"),
            "after scaling": (
                "temperature_fitted",
                "temperature_ece",
                "vector_ece",
                "vector_accuracy",
                "platt_ece",
                "platt_accuracy",
            ),
            "one seed's pick": ("chosen_smoothing",),
        },
        {"after scaling": ("ece_classwise", "ece_adaptive", "brier")},
    ),
    "noisy_labels": Section(
        "Wrong labels (`experiments/noisy_labels.py`)",
        {"wrong labels": ("accuracy", *MEMORISATION)},
    ),
    "patience": Section(
        "How many stored views (`experiments/patience.py`)",
        {"stored views": ("accuracy", "nll", "agreement", "kl")},
    ),
    "cache_precision": Section(
        "What a cache may leave out (`experiments/cache_precision.py`)",
        {
            "stored form": (
                "cache_bytes_per_view",
                "cache_tv_T1",
                "cache_tv_T4",
                "accuracy",
                "nll",
                "agreement",
                "kl",
                "interclass_variance_relative",
            )
        },
    ),
}
"""Sections in the order of printing; other experiments follow by name, with the measures of the first section."""


def results(folder: Path = FOLDER, only: Collection[str] = ()) -> str:
    """Return a section per recorded experiment: measures per data set, then the verdicts of all data sets."""
    recorded: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        summary = _read(path)
        recorded.setdefault(summary["experiment"], []).append(summary)
    names = [name for name in (*SECTIONS, *sorted(recorded.keys() - SECTIONS)) if name in recorded]
    return "\n\n".join(
        part for name in names if not only or name in only for part in _section(name, recorded[name])
    )


def claims_of_paper(folder: Path = FOLDER) -> str:
    """Return a table of the paper's claims, in the order of its figures and tables, with a verdict for each."""
    summaries = [_read(path) for path in sorted(folder.glob("*.json"))]
    # Experiments of other papers name the authors ("et al."); they have sections of their own.
    own = (summary for summary in summaries if summary.get("reproduces") and "et al." not in summary["reproduces"])
    recorded = sorted(own, key=paper_order)
    rows = [
        [summary["reproduces"], claim["statement"], f"**{claim['verdict']}**", claim["evidence"]]
        for summary in recorded
        for claim in with_evidence(summary)
    ]
    return _markdown(Grid("Claims of the paper", ["in the paper", "claim", "verdict", "evidence"], rows))


def record(report: Path, folder: Path = FOLDER) -> Path:
    """Record the summary of a report; of very many rows it keeps the measures that a table or a claim shows."""
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    if len(summary["rows"]) > MOST_ROWS:
        shown = SECTIONS[summary["experiment"]]
        tables = [*shown.tables.values(), *shown.beside.values()]
        wanted = {measure for measures in tables for measure in measures}
        wanted |= {claim["measure"] for claim in summary["claims"]}
        summary["rows"] = [row for row in summary["rows"] if row["measure"] in wanted]
    data = Path(summary["data"].rpartition(":")[2]).name.partition(".")[0]
    path = folder / f"{summary['experiment']}-{data}.json"
    path.write_text(json.dumps(summary | {"data": data}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any]:
    """Read a recorded summary; an old one that does not describe its columns gets the columns of today."""
    summary = {"published": [], **json.loads(path.read_text(encoding="utf-8"))}
    if "columns" not in summary:
        name = summary["experiment"]
        own = getattr(load_experiment(name), "MEASURES", ()) if name in experiment_names() else ()
        known = (*MEASURES, *(each for probe in PROBES for each in probe_measures(probe)), *own)
        summary["columns"] = as_columns(known, {each.name for each in known})
    return summary


def _section(name: str, summaries: list[dict[str, Any]]) -> Iterator[str]:
    shown = SECTIONS.get(name) or Section(f"`experiments/{name}.py`", SECTIONS["dark_knowledge"].tables)
    if shown.heading:
        yield f"### {shown.heading}"
    for summary in summaries:
        columns = read_columns(summary)
        for caption, measures in shown.tables.items():
            own, beside = (
                [columns[name] for name in names if name in columns]
                for names in (measures, shown.beside.get(caption, ()))
            )
            table = comparison(summary, own, f"{summary['data']}, {caption}", beside)
            if table is not None:
                yield f"**{table.caption}**\n\n{_markdown(table)}"
        published = paper_table(summary, only_numbers=True)
        if published is not None:
            yield f"**{summary['data']}, the paper and ours**\n\n{_markdown(published)}"
            if warning := caution(summary):
                yield warning
    yield f"**Verdicts**\n\n{_markdown(_verdicts(summaries))}"


def _verdicts(summaries: list[dict[str, Any]]) -> Grid:
    claims = {claim["id"]: claim["statement"] for summary in summaries for claim in summary["claims"]}
    rows = []
    for name, statement in claims.items():
        found = [next((c for c in with_evidence(summary) if c["id"] == name), None) for summary in summaries]
        rows.append([statement, *(f"**{c['verdict']}**: {c['evidence']}" if c else "" for c in found)])
    return Grid("Verdicts", ["claim", *(summary["data"] for summary in summaries)], rows)


def _markdown(table: Grid) -> str:
    rule = ["---"] * len(table.header)
    return "\n".join(f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows))


def main(arguments: list[str]) -> None:
    """Print tables, or record reports."""
    if arguments[:1] == ["--record"]:
        for report in arguments[1:]:
            print(record(Path(report)))
    else:
        print(claims_of_paper() if arguments == ["--paper"] else results(only=arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
