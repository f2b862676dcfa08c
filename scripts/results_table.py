"""Print the README's results, as Markdown, from the recorded summaries in experiments/results/.

To record a run: copy `summary.json` of its report to `experiments/results/<experiment>-<data>.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.stages.report_tables import CLASS_NEVER_SEEN, TEACHERS_AND_STUDENTS, Grid, comparison, evidence

FOLDER = Path(__file__).parents[1] / "experiments" / "results"
SHOWN = ("accuracy", "nll", "ece", "interclass_variance", "interclass_variance_relative", "gap", "agreement")


def results(folder: Path = FOLDER) -> str:
    """Measures of every condition per data set, then the verdicts side by side."""
    summaries = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    columns = [column for column in TEACHERS_AND_STUDENTS if column.measure in SHOWN]
    parts = []
    for summary in summaries:
        for caption, chosen in (("all classes", columns), ("a class never seen", CLASS_NEVER_SEEN)):
            table = comparison(summary, chosen, f"{summary['data']}, {caption}")
            if table is not None:
                parts.append(f"**{table.caption}**\n\n{_markdown(table)}")
    return "\n\n".join([*parts, f"**Verdicts**\n\n{_markdown(_verdicts(summaries))}"])


def _verdicts(summaries: list[dict[str, Any]]) -> Grid:
    claims = {claim["id"]: claim["statement"] for summary in summaries for claim in summary["claims"]}
    rows = []
    for name, statement in claims.items():
        found = [next((c for c in summary["claims"] if c["id"] == name), None) for summary in summaries]
        rows.append([statement, *(f"**{c['verdict']}**: {evidence(c)}" if c else "" for c in found)])
    return Grid("Verdicts", ["claim", *(summary["data"] for summary in summaries)], rows)


def _markdown(table: Grid) -> str:
    rule = ["---"] * len(table.header)
    return "\n".join(f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows))


if __name__ == "__main__":
    print(results())
