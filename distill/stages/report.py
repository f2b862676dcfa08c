"""Run stage 5: write the report of one experiment, with its figures, tables and verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.config import ReportConfig
from distill.config.contents import without_contents
from distill.metrics.measured import MEASURES_FILE
from distill.metrics.measures import MEASURES
from distill.probes import probe_measures
from distill.reports import experiment_files
from distill.reports.experiment import Experiment, Table
from distill.reports.report_page import log_figures, write_report
from distill.store.inputs import Inputs
from distill.store.key import key
from distill.store.outcome import Outcome
from distill.store.provenance import provenance
from distill.system.reading import read_json
from distill.system.runtime import Runtime


def write(config: ReportConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Write the pages of an experiment, and its figures to `tb/`, from the analyses of its runs.

    Raises:
        UserError: there is no such experiment, or an analysis is missing or damaged.
    """
    experiment = experiment_files.load_experiment(config.experiment)
    title = (experiment.__doc__ or config.experiment).strip().splitlines()[0].rstrip(".")
    made_by = provenance(runtime) | {"minutes": round(inputs.seconds() / 60, 2)}
    write_report(config, experiment, title, read_table(experiment, config, inputs), made_by, folder)
    log_figures(folder)
    return Outcome({}, {})


def read_table(experiment: Experiment, config: ReportConfig, inputs: Inputs) -> Table:
    """Read the measures of an experiment's runs into a table, under the labels of the runs."""
    measured: dict[str, Any] = {}
    table = Table()
    for analysis in config.analyses:
        artifact = inputs.artifact(analysis)
        of_runs = read_json(artifact.file(MEASURES_FILE))
        # The experiment does not know the digests of the files and the code that its runs name.
        measured |= {key(without_contents(run)): of_runs[key(run)] for run in analysis.runs}
        table.classes = tuple(artifact.record.data.get("classes", table.classes))
    for label, run in experiment.runs(config.scale, config.data).items():
        of_run = measured[key(run)]
        if of_run["diverged"]:
            table.diverged[label] = of_run["diverged"]
        else:
            table.values[label], table.curves[label] = of_run["values"], of_run["curves"]
    probes = dict.fromkeys(probe.probe for analysis in config.analyses for probe in analysis.probes)
    of_probes = (each for probe in probes for each in probe_measures(probe))
    table.measures = (*MEASURES, *of_probes, *getattr(experiment, "MEASURES", ()))
    if derived := getattr(experiment, "derived", None):
        table.values |= derived(table)
    return table
