"""Implement the commands that look after the store and the machine: ls, show, verify, gc, doctor."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal

from distill.cli.arguments import ArtifactName, ArtifactNames, FolderFlags, RuntimeFlags, print_lines
from distill.cli.flags import Mark
from distill.errors import UserError, printable
from distill.store.stages import FOLDERS, STAGES
from distill.store.store import ArtifactStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distill.audit.replay import Finding

    _Listed = str
else:
    _Listed = Literal["all", *STAGES]


def ls(
    stage: Annotated[_Listed, Mark.POSITIONAL] = "all",
    json_: bool = False,
    *,
    where: FolderFlags,
) -> None:
    """List artifacts: key, stage, accuracy on the test set, path.

    Args:
        stage: stage whose artifacts are listed.
        json_: Print one JSON array, which also has the title, the data set and all measures of each artifact.
    """
    store = ArtifactStore(where.store)
    listed: list[object] = []
    for folder in [each.name for each in FOLDERS.values()] if stage == "all" else (stage,):
        for path in store.published(folder):
            with suppress(UserError):
                record = store.record(path)
                each = str(record.config.get("stage"))
                if stage not in ("all", each):
                    continue
                if json_:
                    about = {"stage": each, "title": path.name.rpartition("-")[0], "path": str(path)}
                    listed.append({"key": record.key} | about | {"metrics": record.metrics, "data": record.data})
                    continue
                accuracy = record.metrics.get("test/accuracy")
                shown = "" if accuracy is None else f"{accuracy:.4f}"
                print_lines(f"{record.key[:8]}  {each:8}  {shown:6}  {printable(str(path))}")
    if json_:
        print_lines(json.dumps(listed, indent=2))


def show(artifact: ArtifactName, *, where: FolderFlags) -> None:
    """Print the record of an artifact: config, inputs, files, measures, provenance.

    Args:
        artifact: path or key of the artifact.
    """
    print_lines(ArtifactStore(where.store).resolve(artifact).record.model_dump_json(indent=2))


def verify(
    artifacts: ArtifactNames = (), samples: int = 256, repair: bool = False, *, runtime: RuntimeFlags
) -> None:
    """Check files against their records; for artifacts that you name also check images, plug-ins and cached logits.

    Args:
        artifacts: paths or keys; none means the files of all.
        samples: random views of a named cache that are made again.
        repair: make named artifacts again that are damaged.
    """
    from distill.audit import verify as audit
    from distill.audit.contents import check_contents
    from distill.audit.replay import replay

    if repair and not artifacts:
        way_out = "Name artifacts that verify calls damaged."
        raise UserError("repair", True, "the names of what to make again", way_out)
    if samples < 1:
        raise UserError("samples", samples, "at least 1", "Drop it, or raise it.")
    folder = ArtifactStore(runtime.store)
    damaged = unproven = 0
    for checked in audit.examine(folder, [folder.resolve(name) for name in artifacts]):
        print_lines(f"{'damaged' if checked.problems else 'ok':8} {printable(str(checked.path))}")
        for text in checked.problems:
            print_lines(f"         {printable(text)}", verify)
        for text in checked.unproven:
            print_lines(f"unproven {printable(text)}", verify)
        unproven += bool(checked.unproven)
        if checked.problems and repair:
            print_lines(f"made     {audit.repair(checked, folder, runtime)}")
            continue
        damaged += bool(checked.problems)
        artifact = checked.artifact
        if artifacts and not checked.problems and artifact:
            damaged += False in _told(check_contents(artifact, runtime), "unchecked")
            if artifact.config.stage == "cache":
                replayed = _told(replay(artifact, folder.home(artifact), runtime, samples), "unproven")
                damaged += False in replayed
                unproven += None in replayed
    if damaged:
        way_out = "make them again with `distill verify --repair NAME …`, or delete those without a file of yours"
        print_lines(f"{damaged} damaged or stale: {way_out} and run the same command again.")
    if unproven:
        print_lines(f"{unproven} could not be proven: what is needed is not here.")
    if damaged or unproven:
        raise SystemExit(1)


def _told(findings: Iterable[Finding], impossible: str) -> list[bool | None]:
    """Print the result of each check; return for each True if it passed, False if not, None if impossible."""
    passed = []
    for finding in findings:
        word = {True: "ok", False: "FAILED", None: impossible}[finding.ok]
        print_lines(f"{word:8} {printable(f'{finding.what}: {finding.text}')}", verify)
        passed.append(finding.ok)
    return passed


def gc(delete: bool = False, drafts: bool = False, unreached: bool = False, *, where: FolderFlags) -> None:
    """List what no run can use any more, and its size; what a current artifact needs is never listed.

    Args:
        delete: also delete what is listed.
        drafts: also list what interrupted runs would go on from.
        unreached: also list artifacts that no report and no sweep was made from.
    """
    from distill.store.garbage import collect

    for line in collect(ArtifactStore(where.store), delete, drafts, unreached):
        print_lines(printable(line), gc)


def doctor(*, where: FolderFlags) -> None:
    """Check this machine: versions, device, data sets found, disk. Exit 1 if something will not work."""
    from distill.cli.doctor import examine

    lines, healthy = examine(where.data_root, where.store)
    print_lines("\n".join(lines))
    if not healthy:
        raise SystemExit(1)
