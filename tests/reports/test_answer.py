"""The answer of a report: one plain sentence that is made from its verdicts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from distill.reports.answer import answer_of, in_words
from distill.reports.experiment import Saying
from experiments import dark_knowledge

VERDICTS = ("reproduced", "contradicted", "undecided")


def summary(*claims: tuple[str, str], data: str = "digits", **fields: Any) -> dict[str, Any]:
    """Claims, each with its statement, which is its id too, and its verdict."""
    judged = [{"id": text, "statement": text, "verdict": verdict, "seeds": 10} for text, verdict in claims]
    return {"claims": judged, "data": data} | fields


def test_claims_are_listed_by_their_verdicts() -> None:
    told = answer_of(summary(("A", "reproduced"), ("C", "contradicted"), ("D", "undecided"), ("B", "reproduced")))
    assert told == "On digits (10 seeds): reproduced: A; B. Not so: C. Undecided: D."
    one = summary(("A", "undecided"), data="imagefolder:/home/me/birds")
    one["claims"][0]["seeds"] = 1
    assert answer_of(one) == "On birds (1 seed): undecided: A."
    assert answer_of(summary()) == ""


@pytest.mark.parametrize("count", [1, 3, 10, 100])
@pytest.mark.parametrize("length", [1, 60, 400])
def test_an_answer_is_short_and_says_how_many_it_leaves_out(count: int, length: int) -> None:
    told = answer_of(summary(*((f"{number:0{length}}", "reproduced") for number in range(count))))
    assert len(told) <= 300
    listed = told.count("; 0") + 1
    if length == 60 and count > 3:
        assert f"; and {count - listed} more." in told
    if length == 400:
        assert f"reproduced: {count} claim{'s' if count > 1 else ''}." in told


def test_an_experiment_brings_its_own_words() -> None:
    sayings = [
        Saying("it shrinks {}", "it grows {}", "unknown {}", {"a": "at T = 1", "b": "at T = 4", "c": "at T = 16"})
    ]
    claims = summary(("c", "reproduced"), ("a", "reproduced"), ("b", "reproduced"), ("x", "undecided"))["claims"]
    assert in_words(sayings, claims) == ["it shrinks at T = 1, 4 and 16"]
    claims[1]["verdict"] = "contradicted"
    assert in_words(sayings, claims) == ["it shrinks at T = 4 and 16", "it grows at T = 1"]
    words = in_words([*sayings, Saying("never", "never", "never", {"y": ""})], claims)
    assert answer_of(summary(("c", "reproduced"), in_words=words)).endswith(
        ": it shrinks at T = 4 and 16; it grows at T = 1."
    )


def test_words_say_what_the_verdicts_are_whatever_they_are() -> None:
    ids = {id_ for saying in dark_knowledge.ANSWER for id_ in saying.claims}
    assert ids < {claim.id for claim in dark_knowledge.CLAIMS}
    told = set()
    for verdicts in itertools.product(VERDICTS, repeat=3):
        judged = dict(zip(("variance-relative", "unseen-T4", "accuracy-T4"), verdicts, strict=True))
        words = in_words(dark_knowledge.ANSWER, [{"id": id_, "verdict": each} for id_, each in judged.items()])
        text = answer_of(summary(("A", "reproduced"), data="fashion-mnist", in_words=words))
        assert len(text) <= 300
        assert " more." not in text
        told.add(text)
    assert len(told) == 27, "other verdicts, another answer"
