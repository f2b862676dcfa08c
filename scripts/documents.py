"""Write what documents show of recorded results and of the list of measures.

    python scripts/documents.py                # writes the pages in experiments/results/, and tables in documents
    python scripts/documents.py --record checkpoints/reports/REPORT …

A page belongs to one experiment. A table in a document stands between `<!-- NAME -->` and `<!-- end -->`.
Recording keeps `summary.json` of a report as `experiments/results/<experiment>-<data>.json`. Of an experiment with
thousands of rows it keeps only the rows that are shown.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distill.metrics.measures import GIVEN, MEASURES, as_markdown, of_kind
from distill.probes import PROBES, probe_measures
from distill.reports.answer import answer_of
from distill.reports.columns import as_columns, read_columns
from distill.reports.experiment_files import experiment_names, load_experiment
from distill.reports.summary import beside_ours
from distill.reports.tables import (
    VERDICTS,
    Grid,
    caution,
    comparison,
    decided_after_holm,
    paper_order,
    paper_table,
    with_evidence,
)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "results"
MOST_ROWS = 1000
"""Number of rows beyond which a recorded run keeps only the rows that are shown."""


class Section(NamedTuple):
    """Say how the results of one experiment are shown."""

    heading: str
    tables: Mapping[str, tuple[str, ...]]
    """Caption → measures, one table per data set."""
    beside: Mapping[str, tuple[str, ...]] = {}
    """Caption → further measures in the first columns, for conditions that have any of the measures in `tables`."""
    note: str = ""
    """What to know before reading the tables."""


CLASS_NEVER_SEEN = ("unseen_recall", "unseen_recall_corrected", "unseen_auc")
PENULTIMATE = tuple(
    f"{name}_{split}" for name in ("compactness", "scatter", "imbalance") for split in ("train", "held_out")
)
INFORMATION = tuple(
    f"information_{name}"
    for name in ("first", "early", "late", "peak", "final", "drop", "printed", "floor", "log_n")
)
TRANSLATION = ("bleu", "bleu_highest", "exact_match", "possible_translation", "oracle_nll")
PREDICTION = ("concordance_T1", "concordance_T4", "rank_correlation_T1", "rank_correlation_T4")
AT_THE_OPTIMUM = tuple(f"reached_{name}" for name in ("gap", "optimum", "share", "probability", "ceiling"))
MEMORISATION = ("held_out_accuracy_clean", "fitted_right", "memorised", "recovered", "wrong_labels")
TEMPERATURE_SCALING = ("scaled_temperature", "scaled_ece", "scaled_nll", "lowest_nll")

SECTIONS = {
    "dark_knowledge": Section(
        "What a smoothed teacher knows, and what its students learn",
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
        note="Fashion-MNIST has a convolutional teacher and all 60,000 images.",
    ),
    "fig1_penultimate": Section(
        "Figure 1: penultimate activations",
        {
            "penultimate activations": (
                "accuracy",
                *PENULTIMATE,
            )
        },
    ),
    "fig2_calibration": Section(
        "Figure 2 and Table 3: calibration",
        {"calibration": ("accuracy", "nll", "ece", *TEMPERATURE_SCALING)},
    ),
    "table2_accuracy": Section(
        "Table 2: accuracy",
        {"accuracy": ("accuracy", "nll", "ece")},
    ),
    "fig3_sequence": Section(
        "Figures 3 and 4: translation",
        {
            "next tokens": ("nll", "ece", *TEMPERATURE_SCALING),
            "sentences": TRANSLATION,
        },
    ),
    "mnist_distillation": Section(
        "Section 4: distillation on MNIST",
        {"distillation": ("accuracy", "nll", "ece", "agreement", "kl")},
    ),
    "matched_smoothing": Section(
        "Section 4 at matched γ",
        {"distillation": ("equivalent_smoothing", "accuracy", "nll", "ece", "agreement", "kl")},
    ),
    "fig5_distillation": Section(
        "Figure 5: distillation",
        {"distillation": ("equivalent_smoothing", "accuracy", "nll", "ece", "agreement")},
    ),
    "fig6_mutual_information": Section(
        "Figure 6: mutual information",
        {
            "mutual information": (
                "accuracy",
                *INFORMATION,
            )
        },
    ),
    "when_smoothing_hurts": Section(
        "Should I smooth my teacher?",
        {
            "what smoothing costs, points of accuracy": ("cost_T1", "cost_T2", "cost_T4", "cost_T16"),
            "each teacher at its best temperature": ("gain_over_labels",),
        },
        {"each teacher at its best temperature": ("accuracy", "held_out_accuracy")},
        note=(
            "The recorded rows are those of the measures below. The points were chosen after a look at "
            "three of the seeds, with test accuracy in view."
        ),
    ),
    "chandrasegaran2022": Section(
        "Chandrasegaran et al. 2022: temperature",
        {
            "teachers and students": ("accuracy", "nll", "ece", "agreement", "agreement_independent"),
        },
        note=(
            '"cifar10-jpeg" is CIFAR-10 as JPEG files, 10,000 training images, three seeds. Teachers '
            "are those of the figures of the paper: the same networks, no replication."
        ),
    ),
    "shen2021": Section(
        "Shen et al. 2021: intra-class variance",
        {
            "teachers and students": (
                "accuracy",
                "aggregated_variance_train",
                "aggregated_variance",
                "agreement",
                "agreement_independent",
            )
        },
        note=(
            '"cifar10-jpeg" is CIFAR-10 as JPEG files, 10,000 training images, three seeds. Teachers '
            "are those of the figures of the paper: the same networks, no replication."
        ),
    ),
    "restore": Section(
        "Giving dark knowledge back",
        {
            "remedies": ("accuracy", "nll", "ece", "interclass_variance_relative", "bits_beyond_top1"),
            "gaps": ("accuracy_gap", "accuracy_gap_best", "accuracy_gap_same_remedy"),
        },
        note=(
            "The points were chosen after a look at three of the seeds, with test accuracy in view. "
            "Teachers are those of the figures of the paper, and students some of "
            "`when_smoothing_hurts`: the same networks, no replication."
        ),
    ),
    "unseen_class": Section(
        "Classes never seen",
        {
            "a class never seen": CLASS_NEVER_SEEN,
            "above the student of labels": ("unseen_recall_over_labels", "unseen_auc_over_labels"),
            "only two classes seen": ("pair_accuracy_corrected", "unseen_accuracy", "unseen_among_unseen"),
        },
        {"only two classes seen": ("accuracy",)},
    ),
    "bits_of_dark_knowledge": Section(
        "What predicts the gain",
        {"measures of teachers": PREDICTION},
    ),
    "smoothing_theory": Section(
        "Label smoothing worked through",
        {"training to the optimum": AT_THE_OPTIMUM},
        note=(
            "Networks without decay, views or clipping end within 1 % of the gap at which the smoothed "
            "loss is least. The report works the algebra through, with code and output."
        ),
    ),
    "smoothing_sweep": Section(
        "How much smoothing, for what use",
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
        note="10,000 images; students see a tenth of them.",
    ),
    "noisy_labels": Section(
        "Wrong labels",
        {"wrong labels": ("accuracy", *MEMORISATION)},
        note=("5,000 images, a part of whose labels is wrong; held-out labels are wrong too, test labels right."),
    ),
    "patience": Section(
        "How many stored views",
        {"stored views": ("accuracy", "nll", "agreement", "kl")},
    ),
    "cache_precision": Section(
        "What a cache may leave out",
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
        note=(
            "TV is the total variation distance between the stored and the exact distribution, on a "
            "sample of the cache. A float16 row has grown by 4 bytes between the runs of the two data "
            "sets."
        ),
    ),
}
"""Sections in the order of printing; other experiments follow by name, with the measures of the first section."""


class Verdict(NamedTuple):
    """Name a claim of the paper that README.md shows, with what the paper and the replication found."""

    experiment: str
    claim: str
    statement: str
    paper: str
    replication: str
    measure: str
    conditions: tuple[str, str]
    """Conditions whose means are shown: before → after."""


TEN = [
    Verdict(
        "fig1_penultimate",
        "tight-held-out",
        "Figure 1: smoothing makes the clusters of held-out images tighter",
        "drawn",
        "",
        "compactness_held_out",
        ("teacher ε=0", "teacher ε=0.1"),
    ),
    Verdict(
        "table2_accuracy",
        "teacher",
        "Table 2: smoothing by 0.1 makes the teacher more accurate",
        "72.1 → 72.7 % (CIFAR-100)",
        "93.60 → 93.56 % (CIFAR-10, ε = 0.15)",
        "accuracy",
        ("teacher ε=0", "teacher ε=0.1"),
    ),
    Verdict(
        "fig2_calibration",
        "scaling",
        "Table 3: one temperature calibrates the network of hard labels: ECE",
        "15.0 → 2.1 % (CIFAR-100)",
        "",
        "ece|scaled_ece",
        ("teacher ε=0", "teacher ε=0"),
    ),
    Verdict(
        "fig2_calibration",
        "smoothing-0.05",
        "Table 3: smoothing by 0.05 calibrates as well: ECE",
        "15.0 → 2.4 % (CIFAR-100)",
        "20.7 → 5.3 % (CIFAR-100)",
        "ece",
        ("teacher ε=0", "teacher ε=0.05"),
    ),
    Verdict(
        "fig3_sequence",
        "smoothing-bleu",
        "Figure 4: smoothing raises BLEU, and no temperature of hard targets does",
        "25.3 → 25.8",
        "",
        "bleu",
        ("teacher ε=0", "teacher ε=0.1"),
    ),
    Verdict(
        "mnist_distillation",
        "teacher",
        "Section 4: smoothing in place of dropout makes a better teacher: errors",
        "0.67 → 0.59 %",
        "0.81 → 0.69 %",
        "error",
        ("teacher, dropout", "teacher ε=0.1"),
    ),
    Verdict(
        "mnist_distillation",
        "student",
        "Section 4: and yet a worse student: errors",
        "0.74 → 0.91 %",
        "0.93 → 1.05 %",
        "error",
        ("student of dropout", "student of ε=0.1"),
    ),
    Verdict(
        "fig5_distillation",
        "better-teacher",
        "Figure 5: a better teacher (ε = 0.6) has a worse student at T = 1",
        "drawn",
        "85.03 → 85.59 %",
        "accuracy",
        ("student of ε=0, T=1", "student of ε=0.6, T=1"),
    ),
    Verdict(
        "fig5_distillation",
        "distilled-T3",
        "Figure 5: the hard teacher (T = 3) teaches better than smoothed labels",
        "drawn",
        "86.35 → 85.94 (T = 4), 87.72 % (T = 8)",
        "accuracy",
        ("student of labels, ε=0.15", "student of ε=0, T=3"),
    ),
    Verdict(
        "fig6_mutual_information",
        "ends-lower",
        "Figure 6: smoothing erases what tells images apart: nats",
        "drawn, to about 0.69",
        "not computed",
        "information_late",
        ("teacher ε=0", "teacher ε=0.1"),
    ),
]


def recorded(folder: Path = FOLDER) -> dict[str, list[dict[str, Any]]]:
    """Read the recorded summaries: name of the experiment → its data sets, in the order of `SECTIONS`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        summary = _read(path)
        found.setdefault(summary["experiment"], []).append(summary)
    return {name: found[name] for name in (*SECTIONS, *sorted(found.keys() - SECTIONS)) if name in found}


def page(name: str, summaries: Sequence[dict[str, Any]], folder: Path = FOLDER) -> str:
    """Write the page of an experiment: what it asks, figures, tables, verdicts, and where the numbers come from."""
    shown = SECTIONS.get(name) or Section(f"`{name}`", SECTIONS["dark_knowledge"].tables)
    introduction = next((summary["introduction"] for summary in summaries if summary.get("introduction")), "")
    command = f"The experiment is [`experiments/{name}.py`](../{name}.py): `distill reproduce {name}`."
    answers = [f"**{text}**" for summary in summaries if (text := answer_of(summary))]
    parts = [f"# {shown.heading}", *answers, introduction, f"{command} {_READING}", shown.note]
    captions = {
        f"{name}-{summary['data']}{'' if at == 0 else '-' + figure['name']}": figure["caption"]
        for summary in summaries
        for at, figure in enumerate(summary.get("figures", ()))
    }
    parts += [
        f"![{path.stem}]({path.name})" + (f"\n\n*{captions[path.stem]}*" if path.stem in captions else "")
        for path in sorted(folder.glob(f"{name}-*.png"))
    ]
    parts += [*_tables(shown, summaries), *map(_made_by, summaries)]
    return "\n\n".join(filter(None, parts)) + "\n"


_READING = (
    "Paired by seed, on one split of the data; ± and [ ] are 95 % Student intervals, and Holm p corrected for the "
    "number of claims. The test set was read once, at the end of each training."
)


def index(folder: Path = FOLDER) -> str:
    """Write a table of the pages, with the number of each verdict."""
    rows = [
        [
            f"[{SECTIONS[name].heading if name in SECTIONS else name}]({name}.md)",
            summary["data"],
            *(str(sum(claim["verdict"] == verdict for claim in summary["claims"])) for verdict in VERDICTS),
            str(decided_after_holm(summary)),
        ]
        for name, summaries in recorded(folder).items()
        for summary in summaries
    ]
    return _markdown(Grid("", ["experiment", "data", *VERDICTS, "decided after Holm"], rows))


def ten(folder: Path = FOLDER) -> str:
    """Write the claims of the paper that matter most: the paper, the replication, ours and our verdict."""
    found, rows = recorded(folder), []
    for each in TEN:
        summary = found[each.experiment][0]
        (claim,) = (claim for claim in summary["claims"] if claim["id"] == each.claim)
        cell = f"**[{claim['verdict']}](experiments/results/{each.experiment}.md)**"
        rows.append([each.statement, each.paper, each.replication or "–", _ours(each, summary), cell])
    header = ["claim", "paper", "replication", "ours", "our verdict"]
    return _markdown(Grid("", header, rows))


def _ours(verdict: Verdict, summary: Mapping[str, Any]) -> str:
    """Write our two means, in the unit of their measure."""
    means = {(row["condition"], row["measure"]): row["mean"] for row in summary["rows"]}
    before, _, after = verdict.measure.partition("|")
    column = read_columns(summary)["accuracy" if before == "error" else before]
    percent = 100 if column.unit in ("%", "×100") else 1

    def mean(condition: str, measure: str) -> str:
        value = 1 - means[condition, "accuracy"] if measure == "error" else means[condition, measure]
        return f"{value * percent:.{column.decimals}f}"

    first, second = verdict.conditions
    return f"{mean(first, before)} → {mean(second, after or before)}{' %' if column.unit == '%' else ''}"


def claims_of_paper(folder: Path = FOLDER) -> str:
    """Write a table of the paper's claims, in the order of its figures and tables, with a verdict for each."""
    summaries = [_read(path) for path in sorted(folder.glob("*.json"))]
    # Experiments of other papers name the authors ("et al.").
    own = (summary for summary in summaries if summary.get("reproduces") and "et al." not in summary["reproduces"])
    rows = [
        [summary["reproduces"], claim["statement"], f"**{claim['verdict']}**", claim["evidence"]]
        for summary in sorted(own, key=paper_order)
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
    """Read a recorded summary; an old one gets the columns of today, and what papers print as it is known today."""
    summary = {"published": [], **json.loads(path.read_text(encoding="utf-8"))}
    name = summary["experiment"]
    if any("replication" not in entry for entry in summary["published"]):
        experiment = load_experiment(name)
        summary["published"] = beside_ours(getattr(experiment, "PAPER", ()), summary["rows"])
        summary["replication"] = getattr(experiment, "REPLICATION", "")
    if "columns" not in summary:
        own = getattr(load_experiment(name), "MEASURES", ()) if name in experiment_names() else ()
        known = (*MEASURES, *(each for probe in PROBES for each in probe_measures(probe)), *own)
        summary["columns"] = as_columns(known, {each.name for each in known})
    return summary


def _tables(shown: Section, summaries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield measures and published numbers per data set, then the verdicts of all data sets."""
    for summary in summaries:
        columns = read_columns(summary)
        for caption, measures in shown.tables.items():
            own, beside = (
                [columns[name] for name in names if name in columns]
                for names in (measures, shown.beside.get(caption, ()))
            )
            table = comparison(summary, own, f"{summary['data']}, {caption}", beside)
            if table is not None:
                yield f"## {table.caption}\n\n{_markdown(table)}"
        published = paper_table(summary, only_numbers=True)
        if published is not None:
            caption = published.caption.replace("The", "the", 1)
            yield f"## {summary['data']}, {caption}\n\n{_markdown(published)}"
            if warning := caution(summary):
                yield warning
    yield f"## Verdicts\n\n{_markdown(_verdicts(summaries))}"


def _made_by(summary: Mapping[str, Any]) -> str:
    made = summary.get("provenance", {})
    packages = " ".join(f"{name} {version}" for name, version in made.get("packages", {}).items())
    facts = [f"commit {made['commit'][:8]}" if made.get("commit") else "", packages, made.get("device", "")]
    minutes = f"{made['minutes']:.0f} minutes of all processes together" if made.get("minutes") else ""
    told = ", ".join(filter(None, [f"scale `{summary['scale']}`" if "scale" in summary else "", *facts, minutes]))
    return f"*{summary['data']}: {told}.*" if told else ""


def _verdicts(summaries: Sequence[dict[str, Any]]) -> Grid:
    claims = {claim["id"]: claim["statement"] for summary in summaries for claim in summary["claims"]}
    rows = []
    for name, statement in claims.items():
        found = [next((c for c in with_evidence(summary) if c["id"] == name), None) for summary in summaries]
        rows.append([statement, *(f"**{c['verdict']}**: {c['evidence']}" if c else "" for c in found)])
    return Grid("Verdicts", ["claim", *(summary["data"] for summary in summaries)], rows)


def _markdown(table: Grid) -> str:
    rule = ["---"] * len(table.header)
    return "\n".join(f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows))


def measures() -> str:
    """Write a table of all measures per kind: name, what it is, source, cost."""
    return "\n".join(f"**{kind}**\n\n{as_markdown(of_kind(kind))}" for kind in GIVEN if of_kind(kind))


TABLES = {
    "README.md": {"ten": ten},
    "experiments/README.md": {"paper": claims_of_paper},
    "experiments/results/README.md": {"index": index},
    "distill/metrics/README.md": {"measures": measures},
}
"""Document → name of a table in it → function that writes the table."""


def documents() -> dict[Path, str]:
    """Return the text that each document should have."""
    pages = {FOLDER / f"{name}.md": page(name, summaries) for name, summaries in recorded().items()}
    return pages | {ROOT / name: _with_tables(ROOT / name, tables) for name, tables in TABLES.items()}


def _with_tables(document: Path, tables: Mapping[str, Callable[[], str]]) -> str:
    text = document.read_text(encoding="utf-8")
    for name, write in tables.items():
        block = f"<!-- {name} -->\n{write().strip()}\n<!-- end -->"
        text, count = re.subn(
            rf"<!-- {name} -->\n.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL
        )
        assert count == 1, f"{document} has {count} tables named {name}"
    return text


def main(arguments: list[str]) -> None:
    """Write documents, or record reports."""
    match arguments:
        case ["--record", *reports]:
            for report in reports:
                print(record(Path(report)))
        case []:
            for path, text in documents().items():
                if not path.exists() or path.read_text(encoding="utf-8") != text:
                    path.write_text(text, encoding="utf-8")
                    print(path.relative_to(ROOT))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
