"""The exact commands that would measure what is not known."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from distill.advice.shelf import hard
from distill.advice.statement import Command
from distill.artifact import key
from distill.cache.remake import flags_of as flags
from distill.config import CacheConfig, DataConfig, TeacherConfig
from distill.runtime import Folders

_AGAIN = "again with --seed 1 and 2"


def line(words: Iterable[str], where: Folders) -> str:
    """One command line, with the folders where they are not the default ones."""
    usual, words = Folders(), [*words]
    if where.store.absolute() != usual.store.absolute():
        words += ["--store", str(where.store)]
    if where.data_root.absolute() != usual.data_root.absolute():
        words += ["--data-root", str(where.data_root)]
    return shlex.join(words)


def distil(teacher: TeacherConfig, where: Folders, temperatures: Iterable[float], cached: bool) -> list[Command]:
    """Cache a teacher unless that is done, and train from it a student like it, beside one of labels."""
    cache = CacheConfig(teacher=teacher, transfer_set=teacher.data)
    alike = flags(teacher, TeacherConfig(), skip=_NOT_OF_STUDENTS)
    found = []
    if not cached:
        found.append(Command("Write its logits", line(["distill", "cache", "--teacher", key(teacher)[:12]], where)))
    for T in temperatures:
        words = ["distill", "student", "--cache", key(cache)[:12], *alike, "--loss.temperature", f"{T:g}"]
        why = f"A student at T = {T:g}, {_AGAIN}; the network is its teacher's, name your own with --model.name"
        found.append(Command(why, line(words, where)))
    words = ["distill", "student", *flags(teacher.data, DataConfig(), "data."), *alike]
    return [*found, Command(f"The student of labels to hold it against, {_AGAIN}", line(words, where))]


_NOT_OF_STUDENTS = (
    "stage",
    "data",
    "augment",
    "seed",
    "snapshots",
    "smoothing",
    "smoothing_convention",
    "labels",
    "smoothing_source",
)


def train_hard(teacher: TeacherConfig, where: Folders) -> Command:
    """The same teacher with hard labels."""
    words = ["distill", "teacher", *flags(hard(teacher), TeacherConfig(), skip=("stage", "labels", "snapshots"))]
    return Command("The same teacher with hard labels, to see what smoothing took away", line(words, where))


def with_held_out(teacher: TeacherConfig, where: Folders) -> Command:
    """The same teacher with some of its images held out."""
    held_out = teacher.replace(data=teacher.data.replace(held_out=0.1))
    words = ["distill", "teacher", *flags(held_out, TeacherConfig(), skip=("stage", "smoothing_source"))]
    if teacher.smoothing_source:
        words += ["--smoothing-source", key(teacher.smoothing_source)[:12]]
    # The default is not said by a flag, and says itself better where it is the point.
    words += ["--data.held-out", "0.1"]
    return Command("The same with a tenth of the images held out", line(words, where))


def hurts(data: str, where: Folders) -> Command:
    """The experiment that asks whether smoothing hurts, on these data."""
    words = ["distill", "reproduce", "when_smoothing_hurts", "--data", data]
    return Command(
        "Whether smoothing hurts on these data, over images, temperature and smoothing", line(words, where)
    )


def sweep(recipe: TeacherConfig | None, data: str, where: Folders) -> Command:
    """Which smoothing to take for what use: of a recipe, or of the default one on these data."""
    skip = ("stage", "seed", "snapshots", "smoothing", "smoothing_convention", "labels", "smoothing_source")
    if recipe and recipe.data.held_out == 0:
        recipe = recipe.replace(data=recipe.data.replace(held_out=0.1))  # images choose
    own = flags(recipe, TeacherConfig(), skip=skip) if recipe else []
    if "--data.name" not in own:
        own = ["--data.name", recipe.data.name if recipe else data, *own]
    words = ["distill", "sweep-smoothing", *own]
    return Command("Which smoothing to take, for accuracy, for calibration and for teaching", line(words, where))


def read_test(key_of: str, where: Folders) -> Command:
    """The one look at the test set, after everything was chosen."""
    return Command(
        "When all is chosen: its measures on the test set, read once",
        line(["distill", "evaluate", key_of[:12]], where),
    )
