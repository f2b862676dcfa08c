"""Advice on what is made of a network: a cache of its logits, a calibration of it."""

from __future__ import annotations

from distill.advice import commands
from distill.advice.context import Context
from distill.advice.on_network import on_student, on_teacher
from distill.advice.statement import Advice, Command, Statement, Verdict, listed, percent
from distill.advice.words import held_out, teacher_words
from distill.artifact import Artifact
from distill.config import CacheConfig, CalibrationConfig, EnsembleConfig, TeacherConfig


def on_cache(config: CacheConfig, artefact: Artifact, context: Context) -> Advice:
    """Its teacher's advice, and what the cache left out of its answers."""
    subject = f"{artefact.path.name}: a cache"
    said = _about_cache(config, artefact)
    teacher = config.teacher
    if isinstance(teacher, TeacherConfig) and (network := context.store.find(teacher)):
        advice = on_teacher(teacher, network, context)
        sections = {"What the cache holds": said, **advice.sections}
        return Advice(
            f"{subject} of {network.path.name}", advice.verdict, sections, advice.unknown, advice.commands
        )
    if isinstance(teacher, EnsembleConfig):
        why = f"of {len(teacher.members)} teachers together no predictions on held-out images are stored"
        basis = "its record"
    elif isinstance(teacher, TeacherConfig):
        why, basis = "its teacher is not in this store", "this store: 0 networks"
    else:
        why, basis = (
            "its logits are from elsewhere, and answers to held-out images are not among them",
            "its record",
        )
    command = Command(
        "What can be measured of it, on its transfer set",
        commands.line(["distill", "evaluate", artefact.record.key[:12]], context.where),
    )
    members = [
        Command(
            f"Advice on one of its teachers, {teacher_words(each)}, seed {each.seed}",
            commands.line(["distill", "advise", network.record.key[:12]], context.where),
        )
        for each in config.teachers
        if (network := context.store.find(each))
    ]
    return Advice(
        subject,
        Verdict("not-known", Statement(f"{why}.", basis)),
        {"What the cache holds": said},
        [Statement("What a student gains from it, and at which temperature: nothing is told here.", basis)],
        [command, *members],
    )


def _about_cache(config: CacheConfig, artefact: Artifact) -> list[Statement]:
    basis = "its record"
    said = []
    if config.top_k and config.top_k < len(artefact.data["classes"]):
        text = (
            f"It keeps the largest {config.top_k} logits of each view and spreads the rest over the other classes:"
            f" only temperatures near 1 are its teacher's."
        )
        errors = {
            f"T = {name.rpartition('_T')[2]}": value
            for name, value in artefact.record.metrics.items()
            if name.rpartition("/")[2].startswith("tv_T")
        }
        if errors:
            parts = [f"{percent(value, 2)} at {at}" for at, value in errors.items()]
            text += f" Mass that is in the wrong place: {listed(parts)}."
        said.append(Statement(text, basis, {"top_k": config.top_k, **errors}))
    if config.views > 1:
        text = f"It holds {config.views} views of each image, read in turn, one per epoch."
    elif config.augment == type(config.augment)():
        text = "It holds one view of each image, as it is."
    else:
        text = "It holds one augmented view of each image: a student sees this one in every epoch."
    said.append(Statement(text, basis, {"views": config.views}))
    if config.snapshot is not None:
        text = f"Its logits are of part {config.snapshot} of its teacher's training; what follows is of its end."
        said.append(Statement(text, basis, {"snapshot": config.snapshot}))
    return said


def on_calibration(config: CalibrationConfig, artefact: Artifact, context: Context) -> Advice:
    """Advice on the network, and what a calibration changes of it."""
    network = context.store.find(config.network)
    text = (
        f"A {config.method} scaling changes what is said of the network's confidence when it is exported. A cache"
        f" stores the network's own logits, and a student divides them by its own temperature."
    )
    metrics = artefact.record.metrics
    # What the test set says of it is for the time after all is chosen.
    numbers = {name: value for name, value in metrics.items() if not name.startswith("test/")}
    if {"held_out/ece", "held_out/ece_before"} <= numbers.keys():
        before, after = numbers["held_out/ece_before"], numbers["held_out/ece"]
        of = held_out((config.network.data.label_noise,))
        text += f" ECE {percent(before)} becomes {percent(after)}; it was fitted on the same, which are {of}."
    said = [Statement(text, "its record", numbers)]
    subject = f"{artefact.path.name}: a calibration"
    if network is None:
        answer = Verdict("not-known", Statement("its network is not in this store.", "this store: 0 networks"))
        nothing = Statement("All else: nothing is measured.", "this store: 0 networks")
        return Advice(subject, answer, {"What it is": said}, [nothing], [])
    on = on_teacher if isinstance(config.network, TeacherConfig) else on_student
    advice = on(config.network, network, context)  # pyright: ignore[reportArgumentType]
    sections = {"What the calibration does": said, **advice.sections}
    return Advice(f"{subject} of {network.path.name}", advice.verdict, sections, advice.unknown, advice.commands)
