"""Students of every soft term, trained by their stage: from labels, from mixed ones, without some classes."""

from __future__ import annotations

import json

import pytest

from distill.config import SOFT_TERMS, AugmentConfig, LossConfig, ScheduleConfig, StudentConfig
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.key import key

EPOCHS = 3
MAXSUP = {"smoothing": 0.1, "smoothing_convention": "maxsup"}


def losses(made: Artifact) -> list[float]:
    """Of the soft term along training."""
    rows = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    return [row["loss/soft"] for row in rows if "loss/soft" in row]


def weights(made: Artifact) -> str:
    return made.record.files["model.safetensors"].sha256


OTHER_TERMS = tuple(name for name in SOFT_TERMS if name not in ("kl", "logit-matching"))
NEEDS_THE_LABEL = tuple(name for name, term in SOFT_TERMS.items() if term.needs_labels)


@pytest.mark.parametrize(
    ("terms", "changes"),
    [
        (OTHER_TERMS, {}),
        (NEEDS_THE_LABEL, {"augment": AugmentConfig(mixup=1.0)}),
        (NEEDS_THE_LABEL, {"exclude_classes": (3, 8)}),
    ],
    ids=["labels", "mixed labels", "classes left out"],
)
def test_every_soft_term_falls_in_training(terms, changes, student: StudentConfig, store, runtime) -> None:
    assert student.cache is not None
    if "augment" in changes:
        changes = {"cache": student.cache.replace(**changes)}
    schedule = ScheduleConfig(epochs=EPOCHS, batch_size=64)
    alpha, how = (0.5, MAXSUP) if changes else (1.0, {})
    students = [
        student.replace(schedule=schedule, loss=LossConfig(soft=soft, alpha=alpha, temperature=2, **how), **changes)
        for soft in terms
    ]
    # One process: these nets take less time than to start another.
    made = ensure(students, store, runtime.model_copy(update={"jobs": 1}))
    for config in students:
        first, *_, last = losses(made[key(config)])
        assert last < 0.9 * first, config.loss.soft
    assert len({weights(made[key(config)]) for config in students}) == len(students), "each term is its own"


def test_targets_beside_maximum_suppression_have_no_equivalent_smoothing(student, store, runtime) -> None:
    name = "targets/equivalent_smoothing"
    beside, instead, nothing = (
        student.replace(loss=LossConfig(alpha=0.5, **MAXSUP)),
        student.replace(loss=LossConfig(alpha=1)),
        student.replace(loss=LossConfig(alpha=0.5, smoothing_convention="maxsup")),
    )
    made = ensure([beside, instead, nothing], store, runtime.model_copy(update={"jobs": 1}))
    assert name not in made[key(beside)].record.metrics
    of_soft = made[key(instead)].record.metrics[name]
    assert made[key(nothing)].record.metrics[name] == pytest.approx(of_soft / 2)


def test_a_teacher_trains_with_maximum_suppression(teacher, store, runtime) -> None:
    others = [teacher, teacher.with_loss(smoothing=0.1), teacher.with_loss(**MAXSUP)]
    made = ensure(others, store, runtime.model_copy(update={"jobs": 1}))
    assert len({weights(made[key(config)]) for config in others}) == len(others)
