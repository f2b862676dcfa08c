"""`distill advise`: whether to distil from what there is, at which temperature, and on what basis that is said.

Three steps: facts are measured or read (`measures`, `trials`, `recorded`), pure functions make sentences of them
(`about_network`, `about_students`, `recorded.statements`), and each subject puts its own together (`on_…`). Every
sentence names its basis, and where nothing was measured it says so, with the command that would. Measures are of
held-out images: the test set is not read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distill.advice.context import Context, read_context
from distill.advice.statement import Advice, Statement
from distill.artifact import Artifact
from distill.config import (
    BUILT_IN_DATA,
    CacheConfig,
    CalibrationConfig,
    ReportConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.runtime import Folders

__all__ = ["Advice", "advise"]


def advise(subject: str, where: Folders) -> Advice:
    """Advice on an artefact, or on all that the store holds on a data set.

    Args:
        subject: path or key of a teacher, student, cache, calibration, sweep or report; or the name of data.
        where: the store and the data root, the latter for the commands only.

    Raises:
        UserError: the name is neither, or the artefact is of a kind that has nothing to teach, or damaged.
    """
    # Loaded here and not with `distill --help`: they bring torch.
    from distill.advice.on_data import on_data

    context = read_context(where)
    if not Path(subject).exists() and _is_data(subject, context):
        advice = on_data(subject, context)
    else:
        advice = _on_artefact(_resolve(subject, context), context)
    return advice if context.recorded else _without_recorded(advice)


def _without_recorded(advice: Advice) -> Advice:
    """Where this package is installed without a clone: no recorded results, and no experiments to run."""
    text = "What recorded results of other networks say: they lie in a clone of this project, and none is here."
    missing = Statement(text, "this installation")
    commands = [each for each in advice.commands if "distill reproduce" not in each.line]
    return replace(advice, unknown=[*advice.unknown, missing], commands=commands)


def _is_data(subject: str, context: Context) -> bool:
    known = subject in BUILT_IN_DATA or ":" in subject
    return known or any(config.data.name == subject for config, _ in context.shelf.of(TeacherConfig))


def _resolve(subject: str, context: Context) -> Artifact:
    if not Path(subject).exists() and len(found := context.shelf.named(subject)) == 1:
        return found[0]
    try:
        return context.store.resolve(subject)
    except UserError as error:
        if error.field != "artefact":
            raise
        expected = (
            f"a path or a key of an artefact, or data: {', '.join(BUILT_IN_DATA)}, imagefolder:PATH or a plug-in"
        )
        way_out = "List the artefacts with `distill ls`."
        raise UserError("subject", subject, f"{expected} ({error.args[2]})", way_out) from error


def _on_artefact(artefact: Artifact, context: Context) -> Advice:
    from distill.advice.on_cache import on_cache, on_calibration
    from distill.advice.on_network import on_student, on_teacher
    from distill.advice.on_report import on_report
    from distill.advice.on_sweep import on_sweep

    match artefact.config:
        case TeacherConfig() as config:
            return on_teacher(config, artefact, context)
        case StudentConfig() as config:
            return on_student(config, artefact, context)
        case CacheConfig() as config:
            return on_cache(config, artefact, context)
        case CalibrationConfig() as config:
            return on_calibration(config, artefact, context)
        case SweepConfig() as config:
            return on_sweep(config, artefact, context)
        case ReportConfig() as config:
            return on_report(config, artefact, context)
        case config:
            expected = "a teacher, student, cache, calibration, sweep or report"
            way_out = "Name one of the networks that it measures."
            raise UserError("subject", artefact.path.name, f"{expected}, this is an {config.stage}", way_out)
