"""Implement the command `distill checkup`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from distill.cli.arguments import ArtifactNames, RuntimeFlags, print_lines
from distill.config import DataConfig, ModelConfig
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system.files import expanded


def checkup(
    teachers: ArtifactNames,
    labels: Path | None = None,
    split: Literal["held_out", "test", "train"] = "held_out",
    page: Path = Path("checkup.html"),
    json_: bool = False,
    *,
    model: ModelConfig,
    data: DataConfig,
    runtime: RuntimeFlags,
) -> None:
    """Check up on a teacher, or compare two: smoothing, confidence, knowledge, temperature, and a cache's cost.

    Args:
        teachers: path or key of a teacher, a student or a cache; a file of weights, which is adopted with
            `model.name` and `data.name`; or a file of logits [rows, classes].
        labels: labels of a file of logits (.npy); None takes labels.npy beside it, else those of `data.name`.
        split: images that are measured.
        page: file of the page.
        json_: Print one JSON array, which has everything of the screen, and write no page.
    """
    from distill.audit.checkup import check_up
    from distill.audit.checkup_subject import Given, find
    from distill.reports.checkup_page import Shown, write_page

    if not 1 <= len(teachers) <= 2:
        raise UserError(
            "teachers", f"{len(teachers)} of them", "one teacher, or two to compare", "Name one or two."
        )
    file = expanded(page)
    if not file.parent.is_dir():
        raise UserError("page", str(file), "a file in a folder that exists", "Make the folder first.")
    store = ArtifactStore(runtime.store)
    subjects = [find(each, Given(model, data, labels, split), store, runtime) for each in teachers]
    homes = [ArtifactStore(runtime.store).home(each.artifact) if each.artifact else store for each in subjects]
    made = [check_up(each, home, runtime) for each, home in zip(subjects, homes, strict=True)]
    if json_:
        print_lines(json.dumps([each.to_json() for each in made], indent=2, ensure_ascii=False))
        return
    for each in made:
        print_lines(f"{each.name}: {each.images}")
        topic = ""
        for finding in each.findings:
            print_lines(
                f"{finding.topic if finding.topic != topic else '':18} {finding.text}\n{'':20} ({finding.basis})"
            )
            topic = finding.topic
        for command in each.commands:
            print_lines(f"{'Next':18} {command}")
    shown = [
        Shown(each.name, subject.logits, subject.labels, subject.classes, each.to_json())
        for each, subject in zip(made, subjects, strict=True)
    ]
    file.write_text(write_page(shown), encoding="utf-8")
    print_lines(f"{'page':18} {file}")
