"""Advice on the report of an experiment: its verdicts, and what its tables say."""

from __future__ import annotations

from collections import Counter

from distill.advice import commands, recorded
from distill.advice.context import Context
from distill.advice.statement import Advice, Command, Statement, Verdict, counted
from distill.artifact import Artifact
from distill.config import ReportConfig
from distill.pipeline import SUMMARY
from distill.reading import read_json


def on_report(config: ReportConfig, artefact: Artifact, context: Context) -> Advice:
    """What an experiment of one's own says of smoothing; not of one teacher."""
    summary = read_json(artefact.file(SUMMARY))
    table = recorded.parse(summary, f"report {artefact.record.key[:8]}")
    seeds = max((seeds for _, seeds in table.rows.values()), default=0)
    basis = f"report {artefact.record.key[:8]}: {config.data}, {counted(seeds, 'seed')}, scale {config.scale}"
    verdicts = Counter(claim["verdict"] for claim in summary["claims"])
    counts = ", ".join(f"{count} {word}" for word, count in sorted(verdicts.items())) or "no claims"
    text = f"a report is of many networks, not of one to use. Its claims: {counts}."
    claims = [
        Statement(f"{claim['statement']}: {claim['verdict']}.", f"{basis}, test images, as the report decided it")
        for claim in summary["claims"]
    ]
    return Advice(
        subject=f"{artefact.path.name}: a report",
        verdict=Verdict("not-known", Statement(text, basis, dict(verdicts))),
        sections={"Its claims": claims, "What its tables say": recorded.statements([table], 0.1)},
        unknown=[
            Statement(f"Other data than {config.data}, and other networks than those of the experiment.", basis)
        ],
        commands=[
            Command(
                f"Advice from all that the store holds on {config.data}",
                commands.line(["distill", "advise", config.data], context.where),
            )
        ],
    )
