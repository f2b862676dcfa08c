"""Which students in the store learned from a teacher, and how accurate they are on held-out images, beside others.

The direct evidence of a teacher's worth. A setting is all that students have in common but teacher, temperature and
seed: network, images, schedule, loss, views. Within a setting students are compared in pairs, of the same seeds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from distill.advice.pairs import Pair, Pairs, best_of, by_unit, comparable, compare, decided, of_best
from distill.advice.shelf import Shelf, is_hard, recipe
from distill.advice.words import student_words, teacher_words
from distill.config import CacheConfig, Config, DataConfig, LabelsConfig, StudentConfig, TeacherConfig
from distill.metrics.verdict import Interval, Verdict, interval

ACCURACY = "held_out/accuracy"


@dataclass
class Setting:
    """Held-out accuracies of all students of one setting."""

    words: str
    data: DataConfig
    """Of the students."""
    plain: bool
    """Soft targets alone by KL, all logits, as the experiments of this project mostly have it."""
    soft: dict[str, dict[float, dict[Pair, float]]] = field(default_factory=dict)
    """Recipe of the teacher → temperature → seeds → accuracy."""
    teachers: dict[str, TeacherConfig] = field(default_factory=dict)
    """Recipe → a teacher of it."""
    labels: dict[int, float] = field(default_factory=dict)
    """Seed → accuracy of the student of labels that differs in nothing else."""

    def students(self) -> int:
        """How many learned from soft targets."""
        return sum(len(pairs) for by_temperature in self.soft.values() for pairs in by_temperature.values())


@dataclass(frozen=True)
class Rival:
    """Students of another teacher in the same setting, of the temperatures that both have."""

    words: str
    is_hard: bool
    best: float
    """Its best temperature."""
    difference: Verdict
    """Own minus its students' accuracy, each seed at the best of the others; "reproduced": own are better."""


@dataclass(frozen=True)
class Trial:
    """What one setting says of one teacher's recipe."""

    setting: str
    plain: bool
    by_temperature: Mapping[float, Interval]
    """Accuracy of its students, over the seeds that all these temperatures have."""
    best: float
    """The temperature of the highest mean, the lower one of equals."""
    untold: tuple[float, ...]
    """Other temperatures that cannot be told apart from it."""
    students: int
    seeds: int
    teachers: int
    """Networks of this recipe that stand behind them."""
    own: int
    """Students of the one with the seed that was asked for."""
    data: DataConfig
    """Of the students."""
    labels: Interval | None
    over_labels: Verdict | None
    """Accuracy, each seed at the temperature that is best on the others, minus that of the student of labels."""
    rivals: tuple[Rival, ...]


def settings(shelf: Shelf) -> list[Setting]:
    """Every setting of the store that has a student of a single teacher's final weights, the largest last."""
    found: dict[str, Setting] = {}
    labels: dict[str, dict[int, float]] = defaultdict(dict)
    bases: dict[str, str] = {}
    for config, artefact in shelf.of(StudentConfig):
        accuracy = artefact.record.metrics.get(ACCURACY)
        if accuracy is None or config.exclude_classes:
            continue
        if _of_labels(config):
            labels[_base(config)][config.seed] = accuracy
        elif (cache := config.cache) and isinstance(cache.teacher, TeacherConfig) and _whole(config, cache):
            name = _canonical(_without_teacher(config, cache))
            if name not in found:
                found[name] = Setting(student_words(config), config.data, _plain(config, cache))
                bases[name] = _base(config)
            _add(found[name], config, cache.teacher, accuracy)
    for name, setting in found.items():
        setting.labels.update(labels.get(bases[name], {}))
    return list(found.values())


def _add(setting: Setting, config: StudentConfig, teacher: TeacherConfig, accuracy: float) -> None:
    name = recipe_name(teacher)
    setting.teachers.setdefault(name, teacher)
    by_temperature = setting.soft.setdefault(name, {})
    by_temperature.setdefault(config.loss.temperature, {})[config.seed, teacher.seed] = accuracy


def recipe_name(teacher: TeacherConfig) -> str:
    """The same for two teachers exactly when they are of one recipe."""
    return _canonical(recipe(teacher))


def _of_labels(config: StudentConfig) -> bool:
    loss = config.loss
    return config.cache is None and loss.smoothing == 0 and loss.labels == LabelsConfig()


def _whole(config: StudentConfig, cache: CacheConfig) -> bool:
    return cache.snapshot is None and config.loss.alpha > 0


def _plain(config: StudentConfig, cache: CacheConfig) -> bool:
    loss = config.loss
    usual = loss.soft == "kl" and loss.alpha == 1 and loss.temperature_on == "both"
    return usual and cache.top_k is None and cache.dtype == "float16"


def _without_teacher(config: StudentConfig, cache: CacheConfig) -> StudentConfig:
    # Nothing is validated: this is to be compared only.
    same = cache.model_copy(update={"teacher": None, "view_seed": 0})
    loss = config.loss.model_copy(update={"temperature": 1.0})
    return config.model_copy(update={"seed": 0, "snapshots": 0, "cache": same, "loss": loss})


def _base(config: StudentConfig) -> str:
    """What a student of soft targets has in common with one of labels."""
    augment = config.cache.augment if config.cache else config.augment
    parts = (config.data, config.model, config.optim, config.schedule, augment)
    return "|".join([*map(_canonical, parts), str(config.ema), config.precision])


def _canonical(config: Config) -> str:
    return json.dumps(config.model_dump(mode="json", warnings=False), sort_keys=True)


def trials_of(teacher: TeacherConfig, found: Iterable[Setting]) -> list[Trial]:
    """What each setting says of a teacher's recipe, beside other teachers that differ only in their labels.

    Plain settings come first, then those with the most students.
    """
    name = recipe_name(teacher)
    trials = []
    for setting in found:
        if name in setting.soft:
            trials.append(_trial(setting, name, dict(_siblings(setting, teacher)), teacher.seed))
    return sorted(trials, key=lambda each: (not each.plain, -each.students, each.setting))


def contenders(setting: Setting) -> list[tuple[TeacherConfig, Trial]]:
    """Every teacher's recipe of one setting with its trial, the best first, and only that held against others."""
    trials = {name: _trial(setting, name, {}) for name in setting.soft}
    ranked = sorted(trials, key=lambda name: (-trials[name].by_temperature[trials[name].best].mean, name))
    trials[ranked[0]] = _trial(setting, ranked[0], setting.teachers)
    return [(setting.teachers[name], trials[name]) for name in ranked]


def _siblings(setting: Setting, teacher: TeacherConfig) -> Iterator[tuple[str, TeacherConfig]]:
    own = _without_labels(teacher)
    for name, other in setting.teachers.items():
        if _without_labels(other) == own:
            yield name, other


def _without_labels(teacher: TeacherConfig) -> TeacherConfig:
    usual = {
        "smoothing": 0.0,
        "smoothing_convention": "uniform",
        "labels": LabelsConfig(),
        "smoothing_source": None,
    }
    return recipe(teacher).model_copy(update=usual)


def _trial(setting: Setting, name: str, others: Mapping[str, TeacherConfig], seed: int | None = None) -> Trial:
    tried = setting.soft[name]
    common = comparable(tried)
    means = {temperature: interval(by_unit(pairs).values()) for temperature, pairs in sorted(common.items())}
    best = best_of(common, common[min(common)].keys())
    untold = [other for other in means if other != best and not decided(common[other], common[best])]
    pairs = {pair for at in tried.values() for pair in at}
    rivals = [
        found
        for other, config in others.items()
        if other != name and (found := _rival(tried, setting.soft[other], config))
    ]
    labels, over_labels = None, None
    if against := {pair: setting.labels[pair[0]] for pair in common[best] if pair[0] in setting.labels}:
        labels = interval(by_unit(against).values())
        shared = {at: {pair: values[pair] for pair in against} for at, values in common.items()}
        over_labels = compare(of_best(shared), against)
    return Trial(
        setting=setting.words,
        plain=setting.plain,
        by_temperature=means,
        best=best,
        untold=tuple(untold),
        students=sum(len(at) for at in tried.values()),
        seeds=len({student for student, _ in pairs}),
        teachers=len({network for _, network in pairs}),
        own=sum(network == seed for at in tried.values() for _, network in at),
        data=setting.data,
        labels=labels,
        over_labels=over_labels,
        rivals=tuple(sorted(rivals, key=lambda rival: (not rival.is_hard, rival.words))),
    )


def _rival(own: Mapping[float, Pairs], other: Mapping[float, Pairs], config: TeacherConfig) -> Rival | None:
    """Both at their best temperature, of those that both have, over the seeds that both have at all of these."""
    shared = own.keys() & other.keys()
    pairs = set.intersection(*(set(side[at]) for side in (own, other) for at in shared)) if shared else set()
    if not pairs:
        return None
    mine, theirs = ({at: {pair: side[at][pair] for pair in pairs} for at in shared} for side in (own, other))
    difference = compare(of_best(mine), of_best(theirs))
    return Rival(teacher_words(config), is_hard(config), best_of(theirs, pairs), difference)
