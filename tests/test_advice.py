"""Advice: sentences from made-up facts, each with its basis; trials from made-up students; all of it end to end."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch

from distill import pipeline
from distill.advice import about_network, about_students, advise, commands, on_data, on_network, on_sweep, recorded
from distill.advice.measures import Measures, SoftTargets, Twin, measured
from distill.advice.pairs import Pair, comparable, compare, of_best
from distill.advice.shelf import hard, read_shelf, recipe
from distill.advice.statement import OPENING, Advice, Command, Statement, Verdict
from distill.advice.trials import Rival, Setting, Trial, recipe_name, settings, trials_of
from distill.advice.words import held_out, labels_words, student_words, teacher_words
from distill.artifact import VERSIONS, Artifact, FileEntry, Record, key
from distill.cli import main
from distill.config import (
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    EnsembleConfig,
    LabelsConfig,
    LossConfig,
    ModelConfig,
    ScheduleConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.files import sha256
from distill.flags import parse_config
from distill.metrics.confidence import Gap
from distill.metrics.verdict import Verdict as Paired
from distill.metrics.verdict import interval
from distill.network import load_predictions
from distill.runtime import Folders, Runtime
from distill.store import ArtifactStore

MORE = Paired("reproduced", 0.02, 0.01, 0.03, 0.001, 5)
LESS = Paired("contradicted", -0.02, -0.03, -0.01, 0.001, 5)
UNSURE = Paired("undecided", 0.001, -0.01, 0.012, 0.7, 5)
ONE_SEED = Paired("undecided", 0.02, math.nan, math.nan, math.nan, 1)


def trial(
    over_labels: Paired | None = MORE,
    rivals: tuple[Rival, ...] = (),
    best: float = 4.0,
    images: int | None = 100,
    data: DataConfig | None = None,
) -> Trial:
    return Trial(
        setting="mlp, digits, 10 epochs",
        plain=True,
        by_temperature={1.0: interval([0.8, 0.81, 0.82]), best: interval([0.9, 0.91, 0.92])},
        best=best,
        untold=(1.0,),
        students=6,
        seeds=3,
        teachers=3,
        own=2,
        data=data or DataConfig(limit=images),
        labels=interval([0.88, 0.89, 0.9]) if over_labels else None,
        over_labels=over_labels,
        rivals=rivals,
    )


def beside(difference: Paired, is_hard: bool = True) -> Rival:
    return Rival("mlp without smoothing" if is_hard else "mlp with ε = 0.2", is_hard, 2.0, difference)


def network(low: float = 0.05, high: float = 0.07, fitted: float = 0.5, noise: float = 0.0) -> Measures:
    values = {
        "accuracy": 0.9,
        "nll": 0.4,
        "ece": 0.08,
        "interclass_variance": 0.5,
        "interclass_variance_relative": 0.02,
        "interclass_variance_within": 0.4,
        "conditional_mutual_information": 0.2,
        "bits_beyond_top1": 0.1,
        "agreement": 0.95,
        "kl": 0.03,
    }
    middle = (low + high) / 2
    gap = Gap(0.9, 0.9 - middle, middle, low, high)
    soft = (
        SoftTargets(1.0, gap, 0.1),
        SoftTargets(4.0, Gap(0.9, 0.6, 0.3, 0.28, 0.32), 0.5),
        SoftTargets(16.0, Gap(0.9, 0.2, 0.7, 0.68, 0.72), 0.9),
    )
    return Measures(1000, "image", noise, None, values, 0.88, 0.92, gap, fitted, soft)


@pytest.mark.parametrize(
    ("trials", "is_hard", "answer", "says"),
    [
        ([trial()], True, "use", "at T = 4. Its students are more accurate than those of labels in 1 of 1 setting"),
        ([trial(), trial(best=2)], False, "use", "T = 2 and T = 4 were the best in one setting each"),
        ([trial(), trial(), trial(best=2)], False, "use", "start at T = 4, the best in 2 of 3 settings"),
        ([trial(), trial()], False, "use", "the best in all 2 settings"),
        ([trial(rivals=(beside(MORE),))], False, "use", "those of the hard teacher in 1, less in none"),
        ([trial(rivals=(beside(LESS),))], False, "rather-not", "train it without smoothing"),
        ([trial(UNSURE, (beside(LESS),))], False, "rather-not", "and more in none. If you must: at T = 4"),
        ([trial(LESS)], True, "rather-not", "Train from labels"),
        ([trial(), trial(LESS)], True, "use-but", "less accurate than those of labels in 1"),
        (
            [trial(rivals=(beside(LESS),)), trial(rivals=(beside(MORE),), images=1000)],
            False,
            "use-but",
            "hard labels in 1 (with 100 images) and more accurate than those in 1 (with 1,000 images)",
        ),
        (
            [trial(rivals=(beside(LESS, False),))],
            True,
            "use-but",
            "a smoothed teacher of its recipe taught better in",
        ),
        (
            [trial(rivals=(beside(LESS, False),))],
            False,
            "use-but",
            "another smoothing taught better in 1 of 1 setting",
        ),
        ([trial(UNSURE, (beside(MORE),))], False, "use-but", "that its students gain over labels is not shown"),
        ([trial(None)], True, "not-known", "there is no student of labels"),
        ([trial(UNSURE)], True, "not-known", "is undecided in 1 setting; so far at T = 4"),
        ([trial(ONE_SEED)], True, "not-known", "undecided in 1 setting (1 seed; 3 are the fewest)"),
    ],
)
def test_every_verdict_of_students(trials: list[Trial], is_hard: bool, answer: str, says: str) -> None:
    found = about_students.verdict(trials, is_hard)
    assert found.answer == answer
    assert says in found.statement.text
    assert "held-out images" in found.statement.basis


def test_verdict_without_students() -> None:
    hint = Statement("in recorded results the best temperature was 1", "some.json")
    told = on_network.verdict(network(), [], False, hint)
    assert told.answer == "not-known"
    assert "no student in this store has learned from it; in recorded" in told.statement.text
    assert told.statement.basis == "this store: 0 students; some.json"
    assert on_network.verdict(network(), [], False, None).answer == "not-known"
    assert "no held-out images" in on_network.verdict(Measures(0, "image"), [], True, None).statement.text
    broken = on_network.verdict(Measures(9, "image", 0.0, "accuracy at chance (0.100)"), [trial()], True, None)
    assert broken.answer == "no", "students of a sister do not save a network at chance"
    assert "accuracy at chance" in broken.statement.text


def test_a_statement_without_a_basis_is_refused() -> None:
    with pytest.raises(ValueError, match="no advice without a basis"):
        Statement("Use it.", "")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.05, 0.07, "under-confident"),
        (-0.07, -0.05, "over-confident"),
        (-0.01, 0.02, "about as sure as it is right"),
    ],
)
def test_confidence_is_told_by_its_interval(low: float, high: float, word: str) -> None:
    told = about_network.how_good(network(low, high), smoothed=False)
    assert word in told[1].text
    assert told[1].numbers["gap"] == pytest.approx((low + high) / 2)
    assert {each.basis for each in told} == {"this network, 1,000 held-out images"}


def test_softness_is_told() -> None:
    like, sure = about_network.how_soft(network())
    assert "T = 16 is like γ = 0.90" in like.text
    assert sure.text.startswith("Over-softened already from T = 1 on")
    # 89.5 % is below the accuracy of 90 %, and the interval of the difference includes 0.
    sure = about_network.how_soft(network(-0.01, 0.02))[1]
    assert sure.text.startswith("Over-softened from T = 4 on")
    assert "89.5 % at T = 1" in sure.text
    assert about_network.how_soft(_sure())[1].text.startswith("At none of these temperatures")


def _sure() -> Measures:
    always = tuple(
        SoftTargets(each.temperature, Gap(0.9, 0.99, -0.09, -0.1, -0.08), 0.1) for each in network().soft
    )
    return Measures(**{**vars(network()), "soft": always})


@pytest.mark.parametrize(
    ("low", "high", "fitted", "smoothed", "says"),
    [
        (
            0.05,
            0.07,
            0.5,
            True,
            "softer than its errors warrant, of which smoothing is one reason, a short training",
        ),
        (0.05, 0.07, 0.5, False, "of which a short training is a reason"),
        (-0.07, -0.05, 2.0, False, "harder than its errors warrant"),
    ],
)
def test_why_a_temperature_is_not_1(low: float, high: float, fitted: float, smoothed: bool, says: str) -> None:
    assert says in about_network.how_good(network(low, high, fitted), smoothed)[2].text
    for unsure in (network(-0.01, 0.01, fitted), network(-high, -low, fitted)):
        # Not told where accuracy less confidence is not, or says the contrary.
        assert about_network.how_good(unsure, smoothed)[2].text == f"The temperature of least NLL is {fitted:.2f}."


# Labels that are wrong by design

WRONG = "held-out labels, of which 40 % are wrong by design"


def test_wrong_labels_are_named() -> None:
    assert held_out([0.0]) == "held-out images"
    assert held_out([0.0], "token") == "held-out tokens"
    assert held_out([0.4, 0.4]) == WRONG
    assert held_out([0.2, 0.0, 0.4]) == WRONG.replace("40", "0 to 40")


def test_by_wrong_labels_nothing_is_said_of_confidence() -> None:
    noisy = network(-0.3, -0.2, noise=0.4)
    told = [*about_network.how_good(noisy, smoothed=True), *about_network.how_soft(noisy)]
    told += about_network.dark_knowledge(noisy)
    text = " ".join(each.text for each in told)
    assert text.count("not known") + text.count("Not known") == len(told) == 3
    assert f"90.0 % [88.0, 92.0] of {WRONG}" in text
    assert not any(
        said in text for said in ("-confident, more", "-confident, less", "Over-softened", "It is right", "γ")
    )
    assert {each.basis for each in told} == {f"this network, 1,000 {WRONG}"}


@pytest.mark.parametrize(
    ("over_labels", "noise", "kind", "answer", "says"),
    [
        (MORE, 0.4, "symmetric", "use-but", f"This is by {WRONG}, which makes differences smaller."),
        (LESS, 0.4, "symmetric", "rather-not", f"This is by {WRONG}"),
        (MORE, 0.4, "pair", "not-known", f"by {WRONG}, the better network need not look better"),
        (MORE, 0.6, "symmetric", "not-known", "of which 60 % are wrong by design"),
    ],
)
def test_verdict_by_wrong_labels(over_labels: Paired, noise: float, kind: str, answer: str, says: str) -> None:
    data = DataConfig(label_noise=noise, noise=kind)  # pyright: ignore[reportArgumentType]
    found = about_students.verdict([trial(over_labels, data=data)], is_hard=True)
    assert found.answer == answer
    assert says in found.statement.text
    assert f"{100 * noise:g} % are wrong by design" in found.statement.basis
    for said in about_students.about_each([trial(over_labels, data=data)] * 2):
        assert "wrong by design" in said.basis
        assert "wrong by design" in said.text or "learned from this very network" in said.text


def test_advice_on_data_with_wrong_labels(setup: Folders, teacher: TeacherConfig) -> None:
    store = ArtifactStore(setup.store)
    noisy = teacher.replace(data=teacher.data.replace(label_noise=0.4))
    publish(store, noisy, 0.95)
    told = advise("digits", setup)
    assert "wrong by design" in told.verdict.statement.basis
    assert "95.0 % of held-out labels, of which 40 % are wrong by design" in " ".join(told.text().split())
    for seed in (1, 2, 3):
        publish(store, noisy.replace(seed=seed), 0.99)
    publish(store, teacher, 0.8)
    told = advise("digits", setup)
    assert "5 teachers of 2 recipes" in told.subject
    assert "without smoothing (80.0 %)" in told.verdict.statement.text, "right labels come first"
    assert "1 of 2 recipes are not compared" in told.text()
    fill(store, noisy, {(0.0, 4.0): 0.05, (0.1, 4.0): 0.01})
    assert advise("digits", setup).verdict.answer == "use-but"
    fill(store, teacher, {(0.0, 4.0): -0.05, (0.1, 4.0): -0.06})
    told = advise("digits", setup)
    assert told.verdict.answer == "rather-not", "students of right labels answer, where there are any"
    assert "wrong" not in told.verdict.statement.basis


def test_a_calibration_and_a_sweep_of_wrong_labels(setup: Folders, teacher: TeacherConfig) -> None:
    store = ArtifactStore(setup.store)
    noisy = teacher.replace(data=teacher.data.replace(label_noise=0.4))
    config = SweepConfig(teacher=noisy, smoothings=(0.0, 0.1))
    told = advise(publish(store, config, files={"sweep.json": json.dumps(SWEEP)}).record.key, setup)
    said = told.sections["Which smoothing for what"]
    assert all(WRONG in each.text for each in said[:3])
    assert all(each.basis.endswith(WRONG) for each in said)
    assert WRONG in told.verdict.statement.basis
    found = publish(
        store, CalibrationConfig(network=noisy), metrics={"held_out/ece": 0.1, "held_out/ece_before": 0.3}
    )
    (said,) = advise(str(found.path), setup).sections["What it is"]
    assert f"ECE 30.0 % becomes 10.0 %; it was fitted on the same, which are {WRONG}." in said.text


def test_what_smoothing_took_away() -> None:
    values = network().values
    assert values is not None
    double = {name: value * 2 for name, value in values.items()} | {"accuracy": 0.88, "bits_beyond_top1": 0.08}
    other = Measures(**{**vars(network()), "values": double})
    told = about_network.beside_twin(network(), Twin(other, "abcdef0123", same_seed=False))
    assert "took away 50 % of relative inter-class logit variance" in told.text
    assert "added 25 % of bits beyond top-1" in told.text
    assert "of another seed" in told.text
    assert "+2.00 points" in told.text
    assert told.numbers["interclass_variance_relative change"] == pytest.approx(-0.5)
    assert told.basis.endswith("beside abcdef01")
    said = about_network.dark_knowledge(network())
    assert "80 % of that differs between images of one class" in said[0].text
    assert "0.100 bits" in said[1].text
    assert "95.0 %" in about_network.fidelity(network())[0].text


def test_a_paired_difference_in_words() -> None:
    assert about_students.outcome(MORE) == "+2.00 points [+1.00, +3.00]"
    assert about_students.outcome(UNSURE) == "undecided: +0.10 points [-1.00, +1.20], 5 seeds"
    assert about_students.outcome(ONE_SEED) == "undecided: +2.00 points, 1 seed"


def test_all_settings_are_counted_and_a_few_told() -> None:
    said = about_students.about_each([trial(rivals=(beside(LESS), beside(LESS, False)))] * 8, shown=2)
    assert len(said) == 4, "whose they are, two settings, and all together"
    assert "16 of the 48 students learned from this very network" in said[0].text
    assert "not told apart from T = 1" in said[1].text
    assert "over students of mlp with ε = 0.2 at T = 2 -2.00 points" in said[1].text
    assert "Over all 8 settings, 6 of them not shown, the best was T = 4 in 8" in said[-1].text
    assert said[-1].numbers["those of labels: more"] == 8
    assert all(each.basis.startswith("this store: ") for each in said)


def test_pairs_are_of_the_same_seeds() -> None:
    one = {(seed, seed): 0.9 + 0.001 * seed for seed in range(4)}
    other = {(seed, seed): 0.8 + 0.002 * seed for seed in range(1, 6)}
    found = compare(one, other)
    assert (found.seeds, found.verdict) == (3, "reproduced")
    assert found.effect == pytest.approx(0.1 - 0.002)
    # Three teachers of one student's seed: the unit is the teacher.
    assert compare({(0, seed): 0.9 for seed in range(3)}, {(0, seed): 0.8 for seed in range(3)}).seeds == 3
    twice = {(seed, teacher): 0.9 for seed, teacher in product(range(3), range(2))}
    assert compare(twice, {pair: 0.8 for pair in twice}).seeds == 3, "two teachers of one seed are no two seeds"
    assert of_best({1.0: one, 4.0: other}) == {pair: one[pair] for pair in sorted(one.keys() & other.keys())}
    kept = comparable({1.0: one, 4.0: other, 9.0: {(9, 9): 0.5}})
    assert kept.keys() == {1.0, 4.0}
    assert set(kept[1.0]) == {(seed, seed) for seed in (1, 2, 3)}


def test_no_seed_chooses_the_temperature_that_it_is_judged_at() -> None:
    tried = {1.0: {(0, 0): 0.9, (1, 1): 0.1, (2, 2): 0.1}, 4.0: {(0, 0): 0.2, (1, 1): 0.3, (2, 2): 0.3}}
    assert of_best(tried) == {(0, 0): 0.2, (1, 1): 0.1, (2, 2): 0.1}, "T = 1 by the first seed, T = 4 without it"
    assert of_best({T: {(0, 0): at[0, 0]} for T, at in tried.items()}) == {(0, 0): 0.9}, "one seed has no others"


def test_a_trial_is_judged_by_seeds_that_did_not_choose(teacher: TeacherConfig) -> None:
    tried = {1.0: {(0, 0): 0.9, (1, 1): 0.1, (2, 2): 0.1}, 4.0: {(0, 0): 0.2, (1, 1): 0.3, (2, 2): 0.3}}
    rival = teacher.replace(smoothing=0.1)
    setting = Setting("mlp", teacher.data, plain=True, labels=dict.fromkeys(range(3), 0.1))
    setting.soft = {
        recipe_name(teacher): tried,
        recipe_name(rival): {T: dict.fromkeys(tried[T], 0.0) for T in tried},
    }
    setting.teachers = {recipe_name(each): each for each in (teacher, rival)}
    (found,) = trials_of(teacher, [setting])
    assert found.best == 1
    assert found.over_labels is not None
    assert found.over_labels.effect == pytest.approx((0.2 + 0.1 + 0.1) / 3 - 0.1)
    assert found.rivals[0].difference.effect == pytest.approx((0.2 + 0.1 + 0.1) / 3)


def test_chance_is_no_gain() -> None:
    """Of students that gain nothing, at eight temperatures: held against labels the best is not more often more."""
    drawn = torch.randn(1500, 3, 9, generator=torch.Generator().manual_seed(0)).tolist()
    more = []
    for seeds in drawn:
        tried = {float(T): {(seed, seed): row[T] for seed, row in enumerate(seeds)} for T in range(8)}
        labels: dict[Pair, float] = {(seed, seed): row[8] for seed, row in enumerate(seeds)}
        more.append(compare(of_best(tried), labels).verdict)
    # 3.8 % of each over 200,000 draws; the best of eight means itself would be more in 8 % and less in 0.2 %.
    assert 0.02 < more.count("reproduced") / len(more) < 0.06
    assert 0.02 < more.count("contradicted") / len(more) < 0.06


def test_two_teachers_of_one_recipe(teacher: TeacherConfig) -> None:
    assert recipe(teacher.replace(seed=3, snapshots=2)) == recipe(teacher)
    assert recipe(teacher.replace(smoothing=0.1)) != recipe(teacher)
    smoothed = teacher.replace(labels=LabelsConfig(per_class=(0.1,) * 10, confidence_penalty=0.1))
    assert hard(smoothed) == teacher
    assert hard(teacher.replace(smoothing=0.3, smoothing_convention="others")) == teacher


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "without smoothing"),
        ({"smoothing": 0.1}, "with ε = 0.1"),
        ({"smoothing": 0.1, "smoothing_convention": "others"}, "with ε = 0.1, over the other classes"),
        ({"smoothing": 0.1, "smoothing_convention": "maxsup"}, "with maximum suppression 0.1"),
        ({"labels": LabelsConfig(per_class=(0.1, 0.3))}, "with ε = 0.1 to 0.3 by class"),
        (
            {"smoothing": 0.1, "labels": LabelsConfig(schedule="linear", by_sample="difficulty")},
            "with ε = 0.1, linear over time, by difficulty of the sample",
        ),
        ({"labels": LabelsConfig(confidence_penalty=0.2)}, "without smoothing, confidence penalty 0.2"),
    ],
)
def test_labels_in_words(teacher: TeacherConfig, changes: dict, words: str) -> None:
    assert labels_words(teacher.replace(**changes)) == words
    assert teacher_words(teacher.replace(**changes)) == f"mlp, widths 16 {words}"


def test_settings_in_words(student: StudentConfig) -> None:
    assert student_words(student) == "mlp, widths 16, digits, 2 epochs"
    loss = LossConfig(alpha=0.5, soft="dkd", smoothing=0.1)
    assert "soft term dkd, alpha 0.5, hard term with ε = 0.1" in student_words(student.replace(loss=loss))


# Recorded results


def summary(experiment: str, rows: list[tuple[str, str, float]], seeds: int = 5) -> dict:
    return {
        "experiment": experiment,
        "data": "clothes",
        "claims": [],
        "rows": [
            {"condition": condition, "measure": measure, "mean": mean, "low": mean - 0.01, "high": mean + 0.01}
            | {"seeds": seeds}
            for condition, measure, mean in rows
        ],
    }


HURTS = summary(
    "when_smoothing_hurts",
    [
        ("student of ε=0, T=1, 1%", "held_out_accuracy", 0.7),
        ("student of ε=0, T=4, 1%", "held_out_accuracy", 0.75),
        ("student of ε=0.1, T=1, 1%", "held_out_accuracy", 0.71),
        ("student of ε=0.1, T=4, 1%", "held_out_accuracy", 0.7),
        ("student of ε=0.6, T=1, 1%", "held_out_accuracy", 0.99),
        ("student of ε=0.1, T=4, 1%", "accuracy", 0.999),
        ("student of ε=0.1, T=2, 1%, narrow", "held_out_accuracy", 0.999),
    ],
)


def test_recorded_results_of_the_nearest_smoothing() -> None:
    table = recorded.parse(HURTS, "some.json")
    (told,) = recorded.statements([table], 0.2)
    assert "1 % of the images 71.0 % at T = 1 against 75.0 % at T = 4 (less)" in told.text
    assert told.basis == "some.json: clothes, 5 seeds"
    assert told.numbers["smoothing"] == 0.1
    assert recorded.best_temperatures([table], 0.2) == {1.0}
    assert recorded.best_temperatures([table], 0.0) == {4.0}
    (of_hard,) = recorded.statements([table], 0.0)
    assert "1 % of the images 75.0 % at T = 4" in of_hard.text
    assert "against" not in of_hard.text
    assert recorded.statements([table], None) == [], "no ε says what its labels were"


def test_recorded_results_on_prediction() -> None:
    rows = [("measure: held_out_accuracy", "concordance_T1", 0.7), ("measure: bits_x", "concordance_T1", 0.8)]
    (told,) = recorded.statements([recorded.parse(summary("bits_of_dark_knowledge", rows), "x")], None)
    assert "70 % of cases [69, 71]" in told.text
    assert "Of 1 other measures 1 did better" in told.text


SWEPT = summary(
    "smoothing_sweep",
    [
        *((f"student of ε={own:g}, T={T}", "accuracy", 0.7 + own / 10) for own in (0.0, 0.1, 0.6) for T in (1, 4)),
        *((f"student of the teacher picked for {use}, T=1", "accuracy", 0.71) for use in ("teaching", "accuracy")),
        ("student of the teacher picked for teaching, T=4", "accuracy", 0.7),
    ],
)
SWEPT["claims"] = [
    {"id": f"students-of-teaching-T{T}", "verdict": "contradicted", "seeds": 5}
    | {"effect": -0.0037, "low": -0.0054, "high": -0.0019}
    for T in (1, 4)
]


def test_recorded_sweeps_say_what_the_choice_for_teaching_was_worth() -> None:
    table = recorded.parse(SWEPT, "swept.json")
    students, picked, best = recorded.statements([table], 0.1)
    assert (
        "accuracy on test images: students of a tenth of the images 71.0 % at T = 1 against 70.0 %" in students.text
    )
    assert "at T = 1 71.0 % against 71.0 % (less: -0.37 points [-0.54, -0.19])." in picked.text
    assert "accuracy on test images" in picked.text
    assert "T = 4" not in picked.text, "a row is missing"
    assert "at T = 4 ε = 0.6, 76.0 %, and without smoothing 70.0 %" in best.text
    assert {each.basis for each in (students, picked, best)} == {"swept.json: clothes, 5 seeds"}
    assert recorded.statements([table], None) == [picked, best], "these hold for any teacher"
    assert recorded.best_temperatures([table], 0.1) == set(), "test images choose no temperature"
    assert (
        recorded.on_teaching([recorded.parse(HURTS, "x"), recorded.parse(summary("smoothing_sweep", []), "x")])
        == []
    )
    held_out_too = {**SWEPT, "rows": [*SWEPT["rows"], {**SWEPT["rows"][0], "measure": "held_out_accuracy"}]}
    assert "held-out accuracy" in recorded.statements([recorded.parse(held_out_too, "x")], 0.0)[0].text


def test_the_recorded_sweep_is_read(setup: Folders, teacher: TeacherConfig) -> None:
    (Path("experiments") / "results" / "swept.json").write_text(json.dumps(SWEPT))
    store = ArtifactStore(setup.store)
    sweep = publish(
        store, SweepConfig(teacher=teacher, smoothings=(0.0, 0.1)), files={"sweep.json": json.dumps(SWEEP)}
    )
    for subject in (sweep.record.key, "digits"):
        assert "(less: -0.37 points [-0.54, -0.19])" in " ".join(advise(subject, setup).text().split())


def test_absent_results_are_left_out(tmp_path: Path) -> None:
    assert recorded.recorded_results(tmp_path / "nowhere") == []
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"rows": 3}')
    (tmp_path / "a.json").write_text(json.dumps(HURTS))
    (found,) = recorded.recorded_results(tmp_path)
    assert found.source == "experiments/results/a.json"
    empty = recorded.parse(summary("when_smoothing_hurts", []), "x")
    assert recorded.statements([empty, recorded.parse(summary("bits_of_dark_knowledge", []), "x")], 0.1) == []
    assert recorded.best_temperatures([empty], 0.1) == set()


# Text and JSON


def test_text_and_json_say_the_same() -> None:
    advice = Advice(
        "a teacher",
        Verdict("use-but", Statement("look at T = 4.", "this store", {"seeds": 3, "low": math.nan})),
        {"Reasons": [Statement("word " * 40, "its record")], "Nothing": []},
        [Statement("All else.", "this store")],
        [Command("A long command, kept on one line", "distill " + "x" * 120)],
    )
    text = advice.text()
    assert "Use it, but look at T = 4. [this store]" in text
    assert "Nothing" not in text
    assert "What this cannot know\n- All else. [this store]" in text
    assert "distill " + "x" * 120 in text
    assert max(len(line) for line in text.splitlines() if "distill" not in line) <= 100
    found = json.loads(advice.json())
    assert found["verdict"] == {
        "answer": "use-but",
        "text": "look at T = 4.",
        "basis": "this store",
        "numbers": {"seeds": 3, "low": None},
    }
    assert found["commands"][0]["line"].startswith("distill x")
    assert found["sections"]["Nothing"] == []


def test_numbers_stay_with_their_letters() -> None:
    for width in range(12, 40):
        advice = Advice("s", Verdict("use", Statement("so T = 4 or ε = 0.1, 89.9 % of it", "b")), {}, [], [])
        lines = advice.text(width).splitlines()
        assert not any(line.endswith(("T", "=", "ε", "89.9")) for line in lines), lines


# Students that exist as records only: no training


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("DISTILL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path / "data"))
    # Recorded results of this clone are not these tests' business.
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return Folders()


def publish(
    store: ArtifactStore,
    config: StageConfig,
    accuracy: float = 0.0,
    files: dict[str, str] | None = None,
    metrics: dict[str, float] | None = None,
) -> Artifact:
    path = store.path(config)
    path.mkdir(parents=True)
    for name, content in (files or {}).items():
        (path / name).write_text(content)
    entries = {
        name: FileEntry(sha256=sha256(path / name), bytes=(path / name).stat().st_size) for name in files or {}
    }
    record = Record(
        key=key(config),
        version=VERSIONS[config.stage],
        config=config.model_dump(mode="json"),
        inputs={},
        files=entries,
        data={"classes": list("abc")},
        metrics={"held_out/accuracy": accuracy, "test/accuracy": 0.123, **(metrics or {})},
    )
    (path / "record.json").write_text(record.model_dump_json())
    return store.read(path)


def fill(store: ArtifactStore, teacher: TeacherConfig, gain: dict[tuple[float, float], float], labels: float = 0.8):
    """Students of three seeds, `gain` over labels by (smoothing, temperature); labels vary with the seed."""
    for seed in range(3):
        shift = 0.01 * seed
        base = StudentConfig(data=teacher.data, model=teacher.model, loss=LossConfig(alpha=0), seed=seed)
        publish(store, base, labels + shift)
        for (smoothing, temperature), over in gain.items():
            own = teacher.replace(seed=seed, smoothing=smoothing)
            chance = 0.001 * ((seed * (1 if temperature > 1 else 2) + round(10 * smoothing)) % 3)
            cache = CacheConfig(teacher=own, transfer_set=teacher.data)
            loss = LossConfig(temperature=temperature)
            publish(store, base.replace(cache=cache, loss=loss), labels + shift + over + chance)


def test_trials_come_from_students_of_the_recipe(setup: Folders, teacher: TeacherConfig) -> None:
    store = ArtifactStore(setup.store)
    fill(store, teacher, {(0.0, 1.0): 0.02, (0.0, 4.0): 0.05, (0.1, 1.0): 0.03, (0.1, 4.0): 0.01})
    other = teacher.replace(model=ModelConfig(name="cnn"))
    for ignored in (
        {"exclude_classes": (1,)},
        {"cache": CacheConfig(teacher=other, transfer_set=teacher.data)},
        {"loss": LossConfig(alpha=0.5)},
    ):
        cache = CacheConfig(teacher=teacher, transfer_set=teacher.data)
        publish(store, StudentConfig(data=teacher.data, model=teacher.model, cache=cache).replace(**ignored), 0.99)
    found = settings(read_shelf(store, progress=False))
    plain, mixed = trials_of(teacher, found)
    assert (plain.best, plain.students, plain.seeds, plain.teachers, plain.own) == (4.0, 6, 3, 3, 2)
    assert plain.over_labels is not None
    assert plain.over_labels.verdict == "reproduced"
    assert plain.over_labels.effect == pytest.approx(0.05 + 0.001), "0, 1 and 2 thousandths are its chance"
    assert plain.untold == ()
    (rival,) = plain.rivals
    assert not rival.is_hard
    assert (rival.best, rival.difference.verdict) == (1.0, "reproduced")
    assert mixed.setting.endswith("alpha 0.5")
    assert mixed.over_labels is not None
    assert mixed.over_labels.verdict == "undecided", "one seed decides nothing"
    (smoothed,) = trials_of(teacher.replace(smoothing=0.1, seed=7), found)
    assert smoothed.own == 0, "none of this seed"
    assert smoothed.rivals[0].is_hard
    assert smoothed.rivals[0].difference.verdict == "contradicted"
    assert about_students.verdict([smoothed], is_hard=False).answer == "rather-not"


def test_advice_on_data(setup: Folders, teacher: TeacherConfig) -> None:
    assert "this store has no teacher on digits" in advise("digits", setup).text()
    store = ArtifactStore(setup.store)
    for smoothing, accuracy in ((0.0, 0.9), (0.1, 0.95)):
        publish(store, teacher.replace(smoothing=smoothing), accuracy)
    told = advise("digits", setup)
    assert told.verdict.answer == "not-known"
    assert "The most accurate teacher is mlp, widths 16 with ε = 0.1 (95.0 %)" in told.verdict.statement.text
    assert any("distill cache --teacher" in each.line for each in told.commands)
    fill(store, teacher, {(0.0, 4.0): 0.05, (0.1, 4.0): 0.01})
    told = advise("digits", setup)
    assert told.verdict.answer == "use"
    assert "without smoothing" in told.verdict.statement.text
    assert "better than 1 of 1 other teacher" in told.text()
    says = "taught best in 1 of 1 setting with two or more teachers, told apart from all others in 1"
    assert says in told.verdict.statement.text
    assert told.verdict.statement.numbers["told apart from all others"] == 1
    assert "0.123" not in told.text() + told.json(), "the test set"
    assert "12.3 %" not in told.text()
    other = StudentConfig(data=teacher.data, model=ModelConfig(name="cnn"), loss=LossConfig(alpha=0))
    for seed in range(3):
        publish(store, other.replace(seed=seed), 0.7)
        cache = CacheConfig(teacher=teacher.replace(smoothing=0.1), transfer_set=teacher.data)
        publish(store, other.replace(seed=seed, cache=cache, loss=LossConfig(temperature=4)), 0.8)
    told = advise("digits", setup)
    assert told.verdict.statement.numbers["settings"] == 1, "the only teacher of a setting is not its best"


def test_the_only_teacher_of_each_setting_is_the_best_of_none(setup: Folders, teacher: TeacherConfig) -> None:
    fill(ArtifactStore(setup.store), teacher, {(0.0, 4.0): 0.05})
    told = advise("digits", setup)
    assert told.verdict.answer == "use"
    assert "no setting has students of two teachers" in told.verdict.statement.text
    assert "taught best" not in told.verdict.statement.text


@pytest.mark.parametrize(
    ("gain", "answer"), [({(0.0, 4.0): -0.05}, "rather-not"), ({(0.0, 4.0): 0.0}, "not-known")]
)
def test_data_on_which_distillation_does_not_pay(
    setup: Folders, teacher: TeacherConfig, gain: dict[tuple[float, float], float], answer: str
) -> None:
    fill(ArtifactStore(setup.store), teacher, gain)
    assert advise("digits", setup).verdict.answer == answer


def test_recipes_are_ranked_on_the_same_held_out_images(setup: Folders, teacher: TeacherConfig) -> None:
    store = ArtifactStore(setup.store)
    publish(store, teacher, 0.8)
    publish(store, teacher.replace(seed=1), 0.82)
    publish(store, teacher.replace(data=teacher.data.replace(split_seed=1)), 0.99)
    (row,) = on_data.by_recipe(read_shelf(store, progress=False).of(TeacherConfig))
    assert (row.accuracy.mean, row.seeds) == (pytest.approx(0.81), 2)
    told = advise("digits", setup)
    assert "3 teachers of 2 recipes" in told.subject
    assert "1 of 2 recipes are not compared: they held out other images" in told.text()


SWEEP = {
    "data": "digits",
    "smoothings": [0.0, 0.1],
    "seeds": [0, 1, 2],
    "rows": [
        {"smoothing": 0.1, "measure": "ece", "split": "held_out", "values": {"0": 0.02}}
        | {"mean": 0.02, "low": 0.01, "high": 0.03},
        {"smoothing": 0.1, "measure": "ece", "split": "test", "values": {"0": 0.77}}
        | {"mean": 0.77, "low": 0.7, "high": 0.8},
    ],
    "choices": {
        "accuracy": {
            "smoothing": 0.1,
            "measure": "accuracy",
            "value": 0.97,
            "undecided": [0.0],
            "reason": "Highest.",
        },
        "calibration": {"smoothing": 0.1, "measure": "ece", "value": 0.02, "undecided": [], "reason": "Lowest."},
        "teaching": {
            "smoothing": 0.0,
            "measure": "interclass_variance_relative",
            "value": 0.07,
            "undecided": [],
            "reason": "Most.",
        },
    },
    "diverged": [{"smoothing": 0.1, "seed": 2, "reason": "x"}],
}


def test_advice_on_a_sweep(setup: Folders, teacher: TeacherConfig) -> None:
    store = ArtifactStore(setup.store)
    config = SweepConfig(teacher=teacher, smoothings=(0.0, 0.1))
    found = publish(store, config, files={"sweep.json": json.dumps(SWEEP)})
    told = advise(found.record.key, setup)
    text = " ".join(told.text().split())
    assert told.verdict.answer == "not-known"
    assert (
        "no student has learned from ε = 0, the choice for teaching: of teachers not credibly less accurate" in text
    )
    assert "has the largest relative inter-class logit variance; that is no proof that it teaches best" in text
    assert "For its own accuracy: ε = 0.1, by accuracy (97.0 %). Not told apart from ε = 0. Highest." in text
    assert "For calibration: ε = 0.1, by ECE (2.0 %)." in text
    assert "1 network diverged" in text
    assert "[this sweep: digits, 3 seeds per smoothing, held-out images]" in text
    assert "0.77" not in told.json(), "the test set"
    fill(store, teacher, {(0.0, 4.0): 0.05})
    told = advise(found.record.key, setup)
    assert told.verdict.answer == "use"
    assert "This is of ε = 0: of teachers" in told.verdict.statement.text
    assert "that is no proof that it teaches best" in told.verdict.statement.text
    few = on_sweep.verdict({**SWEEP, "seeds": [0]}, "b", [], teacher)
    assert "it is the most accurate, and the seeds are too few to say more" in few.statement.text
    assert "For calibration" in advise("digits", setup).text(), "sweeps are told of their data"
    (said,) = on_sweep.choices(
        {**SWEEP, "choices": {"accuracy": SWEEP["choices"]["accuracy"]}, "diverged": []}, teacher.data
    )[:1]
    assert said.numbers["accuracy"] == 0.97
    assert on_sweep.verdict({**SWEEP, "choices": {}}, "b", [], None).answer == "not-known"


def test_an_ensemble_or_a_lost_teacher_has_no_predictions(setup: Folders, teacher: TeacherConfig) -> None:
    store = ArtifactStore(setup.store)
    ensemble = EnsembleConfig(members=(teacher, teacher.replace(seed=1)))
    member = publish(store, teacher)
    cache = publish(store, CacheConfig(teacher=ensemble, transfer_set=teacher.data, top_k=2))
    told = advise(str(cache.path), setup)
    assert told.verdict.answer == "not-known"
    assert "no predictions on held-out images are stored" in told.text()
    assert "keeps the largest 2 logits" in told.text()
    assert [each.line for each in told.commands] == [
        f"distill evaluate {cache.record.key[:12]}",
        f"distill advise {member.record.key[:12]}",
    ]
    lost = publish(store, CacheConfig(teacher=teacher.replace(seed=5), transfer_set=teacher.data))
    assert "its teacher is not in this store" in advise(str(lost.path), setup).text()
    scaling = publish(store, CalibrationConfig(network=teacher.replace(seed=5)))
    told = advise(str(scaling.path), setup)
    assert "its network is not in this store" in told.text()
    assert "0.123" not in told.json(), "the test set"


def test_a_name_that_is_nothing_is_one_line(setup: Folders) -> None:
    with pytest.raises(UserError, match=r"subject = 'digit': expected a path or a key .* or data: digits"):
        advise("digit", setup)


def test_old_and_broken_records_are_left_out(setup: Folders, teacher: TeacherConfig) -> None:
    store = ArtifactStore(setup.store)
    old, broken = publish(store, teacher), publish(store, teacher.replace(seed=1))
    (old.path / "record.json").write_text(old.record.model_copy(update={"version": 0}).model_dump_json())
    (broken.path / "record.json").write_text("{}")
    assert read_shelf(store, progress=False).artefacts == ()


# End to end, with networks


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Artifact]]:
    folder = tmp_path_factory.mktemp("advice")
    runtime = Runtime(store=folder, data_root=folder, device="cpu", jobs=1, progress=False, min_teacher_accuracy=0)
    quick = ScheduleConfig(epochs=4, batch_size=64)
    config = TeacherConfig(model=ModelConfig(name="mlp", kwargs={"widths": [32]}), schedule=quick)
    config = config.replace(data=config.data.replace(held_out=0.15))
    runs: dict[str, StageConfig] = {"hard": config, "smoothed": config.replace(smoothing=0.2)}
    runs["noisy and hard"] = config.replace(data=config.data.replace(label_noise=0.4))
    runs["noisy"] = config.replace(smoothing=0.2, data=config.data.replace(label_noise=0.4))
    cache = CacheConfig(teacher=config, transfer_set=config.data)
    student = StudentConfig(cache=cache, data=config.data, model=config.model, schedule=quick)
    runs |= {"cache of hard": cache, "student of hard": student}
    made = pipeline.ensure(runs.values(), ArtifactStore(folder), runtime)
    return folder, {name: found for name, each in runs.items() if isinstance(found := made[key(each)], Artifact)}


@pytest.fixture
def trained(
    trained_once: tuple[Path, dict[str, Artifact]], setup: Folders, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Artifact]:
    del setup  # its folders, of which the store is another one
    monkeypatch.setenv("DISTILL_STORE", str(trained_once[0]))
    return trained_once[1]


def test_advice_on_trained_networks(trained: dict[str, Artifact]) -> None:
    where = Folders()
    told = advise(trained["smoothed"].record.key[:10], where)
    text = told.text()
    assert told.verdict.answer == "not-known", "one seed"
    assert "Beside the same recipe with hard labels, of the same seed" in " ".join(text.split())
    assert "Over-softened already from T = 1" in " ".join(text.split())
    assert text == advise(str(trained["smoothed"].path), where).text(), "deterministic"
    assert max(len(line) for line in text.splitlines() if "distill" not in line) <= 100
    sections = json.loads(told.json())["sections"]
    assert all(each["basis"] for found in sections.values() for each in found)
    logits, labels = load_predictions(trained["smoothed"], "held_out")
    (accuracy,) = [each for each in sections["What it is"] if "accuracy" in each["numbers"]]
    assert accuracy["numbers"]["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert "It gives its teacher's answer on" in advise(str(trained["student of hard"].path), where).text()
    cache = advise(str(trained["cache of hard"].path), where)
    assert cache.verdict == advise(str(trained["hard"].path), where).verdict
    assert "one view of each image" in cache.text()
    again = advise("digits", where)
    assert again.verdict.answer == "not-known"


def test_advice_on_a_network_of_wrong_labels(trained: dict[str, Artifact]) -> None:
    told = advise(str(trained["noisy"].path), Folders())
    text = " ".join(told.text().split())
    assert "of held-out labels, of which 40 % are wrong by design" in text
    assert "test images, which were not read: their labels are right" in text
    assert "Beside the same recipe" not in text
    assert not any(said in text for said in ("-confident, more", "-confident, less", "Over-softened", "NLL is 0"))
    for heading in ("What it is", "What it knows beyond its answer"):
        assert all("wrong by design" in each.basis or each.basis == "its record" for each in told.sections[heading])


def test_commands_do_what_they_say(trained: dict[str, Artifact]) -> None:
    """Each parses; `distill cache` makes the cache that the next ones name; students differ in nothing else."""

    def parsed(name: str, stage: str) -> list[StageConfig]:
        lines = [shlex.split(each.line) for each in advise(str(trained[name].path), Folders()).commands]
        return [parse_config(words[1], words[2:])[0] for words in lines if words[1] == stage]

    smoothed, hard_one = trained["smoothed"].config, trained["hard"].config
    assert isinstance(smoothed, TeacherConfig)
    (cache,) = parsed("smoothed", "cache")
    assert cache == CacheConfig(teacher=smoothed, transfer_set=smoothed.data)
    lines = [each.line for each in advise(str(trained["smoothed"].path), Folders()).commands]
    assert sum(f"--cache {key(cache)[:12]} " in line for line in lines) == 2
    assert parsed("hard", "cache") == [], "it is there"
    *distilled, of_labels = parsed("hard", "student")
    assert [each.loss.temperature for each in distilled if isinstance(each, StudentConfig)] == [1, 4]
    assert isinstance(of_labels, StudentConfig)
    alike = {"data", "model", "optim", "schedule", "seed"}
    assert {each.model_dump_json(include=alike) for each in (*distilled, of_labels)} == {
        hard_one.model_dump_json(include=alike)
    }
    (swept,) = parsed("smoothed", "sweep-smoothing")
    assert isinstance(swept, SweepConfig)
    assert swept.teacher.model == smoothed.model


def test_the_hard_twin_is_trained_by_its_command(teacher: TeacherConfig, setup: Folders) -> None:
    smoothed = teacher.replace(smoothing=0.1, smoothing_convention="others", seed=3)
    words = shlex.split(commands.train_hard(smoothed, setup).line)
    assert parse_config(words[1], words[2:])[0] == teacher.replace(seed=3)


def test_the_test_set_is_not_read(
    trained: dict[str, Artifact], setup: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_held_out(artefact: Artifact, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        assert split == "held_out"
        return load_predictions(artefact, "held_out")

    monkeypatch.setattr("distill.network.load_predictions", only_held_out)
    monkeypatch.setattr("distill.stages.analysis.load_predictions", only_held_out)
    told = [advise(str(each.path), Folders()) for each in trained.values()]
    accuracies = {each.record.metrics.get("test/accuracy") for each in trained.values()}
    shown = {value for each in told for value in _numbers(each)}
    assert not accuracies & shown
    assert {each.record.metrics.get("held_out/accuracy") for each in trained.values()} & shown


def _numbers(advice: Advice) -> Iterator[float | int | str | None]:
    for statements in json.loads(advice.json())["sections"].values():
        for each in statements:
            yield from each["numbers"].values()


def test_a_network_at_chance_is_refused(setup: Folders, runtime: Runtime) -> None:
    config = TeacherConfig(model=ModelConfig(name="mlp", kwargs={"widths": [4]}), schedule=ScheduleConfig(epochs=1))
    config = config.replace(optim=config.optim.replace(lr=1e-9))
    store = ArtifactStore(setup.store)
    made = pipeline.ensure([config], store, runtime)[key(config)]
    assert isinstance(made, Artifact)
    assert "chance" in (measured(made, store).diverged or "")
    told = advise(str(made.path), setup)
    assert told.verdict.answer == "no"
    assert OPENING["no"] == "No:"
    assert "nothing to teach" in " ".join(told.text().split())


def test_a_network_without_held_out_images(setup: Folders, runtime: Runtime) -> None:
    config = TeacherConfig(
        model=ModelConfig(name="mlp", kwargs={"widths": [8]}), schedule=ScheduleConfig(epochs=1), smoothing=0.1
    )
    config = config.replace(data=config.data.replace(held_out=0.0))
    made = pipeline.ensure([config], ArtifactStore(setup.store), runtime)[key(config)]
    assert isinstance(made, Artifact)
    told = advise(str(made.path), setup)
    assert told.verdict.answer == "not-known"
    assert "no held-out images" in told.text()
    line = next(each.line for each in told.commands if "--data.held-out" in each.line)
    assert line.startswith("distill teacher --model.kwargs")
    assert line.endswith("--data.held-out 0.1")


def test_commands_name_folders_that_are_not_the_default(setup: Folders) -> None:
    elsewhere = Folders(store=Path("other store"), data_root=setup.data_root)
    assert commands.hurts("digits", elsewhere).line.endswith("--store 'other store'")
    assert "--store" not in commands.hurts("digits", setup).line


def test_the_command(trained: dict[str, Artifact], capsys: pytest.CaptureFixture[str]) -> None:
    main(["advise", str(trained["hard"].path)])
    assert capsys.readouterr().out.splitlines()[2].startswith("Not known: ")
    main(["advise", "digits", "--json"])
    assert json.loads(capsys.readouterr().out)["subject"].startswith("digits: 4 teachers of 4 recipes")
