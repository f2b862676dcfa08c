"""The translation data set: its grammar, its probabilities and its tokens."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import IGNORED, DataConfig
from distill.data.sets import lexicon, translation
from distill.data.sets.dataset import Split
from distill.data.sets.load import load


def split(sentence: str) -> list[str]:
    return sentence.split()


@pytest.fixture(scope="module")
def corpora() -> tuple[Split, Split]:
    return translation.generate()


def test_a_sentence_by_hand():
    source = split("these small boats missed a red bank quickly in the office")
    target = split("rasch diese Kähne kleinen eine Bank rote in das Büro verpassten")
    # adverb first x Kahn x klein x verpassen x Bank in town x rasch x Büro
    expected = 0.3 * 0.4 * 0.75 * 0.35 * 0.9 * 0.4 * 0.6
    assert translation.probability(source, target) == pytest.approx(expected)
    later = split("diese Kähne kleinen eine Bank rote rasch in das Büro verpassten")
    assert translation.probability(source, later) == pytest.approx(expected * 0.7 / 0.3)
    in_the_country = " ".join(target).replace("das Büro", "der Wald").split()
    of_the_country = [*source[:-1], "forest"]
    assert translation.probability(of_the_country, in_the_country) == pytest.approx(expected / 9 * 0.8 / 0.6)


@pytest.mark.parametrize(
    "wrong",
    [
        "die Hund schlief oft",  # gender
        "der Hund schliefen oft",  # number, and the verb is not last
        "der Hund oft schliefen",
        "der Katze oft schlief",
        "der Hund oft",
        "der Hund oft schlief schlief",
        "",
    ],
)
def test_what_is_impossible_has_probability_zero(wrong: str):
    source = split("the dog slept often")
    assert translation.probability(source, split("der Hund oft schlief")) == pytest.approx(0.7 * 0.7 * 0.7)
    assert translation.probability(source, wrong.split()) == 0


@pytest.mark.parametrize(
    "wrong", ["", "the dog", "dog the slept often", "these dog slept often", "der Hund schlief"]
)
def test_what_is_no_source_sentence_is_refused(wrong: str):
    with pytest.raises(ValueError, match="not a sentence"):
        translation.derivations(wrong.split())


@settings(max_examples=40, deadline=None)
@given(row=st.integers(0, translation.TEST_SENTENCES - 1))
def test_probabilities_of_all_translations_sum_to_one(corpora, row: int):
    source = translation.source_words(corpora[1].images[row : row + 1])[0]
    every = {
        tuple(word for phrase in phrases for word in phrase)
        for _, parts in translation.derivations(source)
        for phrases in itertools.islice(itertools.product(*parts), 3000)
    }
    for _, parts in translation.derivations(source):
        assert [math.fsum(part.values()) for part in parts] == pytest.approx([1.0] * len(parts))
    if len(every) < 3000:
        assert math.fsum(translation.probability(source, target) for target in every) == pytest.approx(1.0)


def test_sentences_are_drawn_with_their_probabilities(corpora):
    """How often each homograph and the order of the adverb occur, within four standard errors."""
    train = corpora[0]
    drawn: dict[tuple[str, int], Counter[bool]] = {}
    for source, target in zip(
        translation.source_words(train.images), translation.target_words(train.labels), strict=True
    ):
        topic = translation.topic_of(source)
        if "bank" in source and "banks" not in source:
            drawn.setdefault(("bank", topic), Counter())["Ufer" in target] += 1
        if "drew" in source:
            drawn.setdefault(("drew", topic), Counter())[target[-1].startswith("zog")] += 1
        if set(source) & lexicon.ADVERBS.keys():
            first = {word.forms[0].split()[0] for words in lexicon.ADVERBS.values() for word in words}
            drawn.setdefault(("adverb", 0), Counter())[target[0] in first] += 1
    shares = {(word, topic): share for word in ("bank", "drew") for topic, share in enumerate((0.9, 0.5, 0.1))}
    for case, share in {**shares, ("adverb", 0): lexicon.ADVERB_FIRST}.items():
        count = drawn[case].total()
        assert count > 50
        assert drawn[case][True] / count == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / count))


def test_every_translation_is_possible_and_no_source_occurs_twice(corpora):
    sources = [sentence for corpus in corpora for sentence in translation.source_words(corpus.images)]
    assert len(set(sources)) == len(sources) == 5200
    targets = [sentence for corpus in corpora for sentence in translation.target_words(corpus.labels)]
    assert all(translation.probability(*pair) > 0 for pair in zip(sources, targets, strict=True))
    assert (min(map(len, sources)), max(map(len, sources))) == (4, 11)


def test_the_oracle_nll_is_near_the_entropy(corpora):
    """The expected NLL is the entropy of the parts and their order: known from the probabilities alone."""
    test = corpora[1]

    def entropy(shares) -> float:
        return -math.fsum(share * math.log(share) for share in shares)

    def variance(shares) -> float:
        shares = list(shares)
        return math.fsum(share * math.log(share) ** 2 for share in shares) - entropy(shares) ** 2

    expected = spread = 0.0
    for source in translation.source_words(test.images):
        orders = translation.derivations(source)
        for shares in ([weight for weight, _ in orders], *(part.values() for part in orders[0][1])):
            expected += entropy(shares)
            spread += variance(shares)
    tokens = int((test.labels != IGNORED).sum())
    oracle_nll = translation.oracle_nll(test.images, test.labels)
    assert oracle_nll == pytest.approx(expected / tokens, abs=4 * math.sqrt(spread) / tokens)
    assert 0.2 < oracle_nll < 0.5
    assert tokens == pytest.approx(10_000, rel=0.1)


def test_the_decoder_is_given_what_comes_before_each_label(corpora):
    images, labels = corpora[0].images, corpora[0].labels
    assert images.shape == (translation.TRAIN_SENTENCES, 1, 2, translation.LENGTH)
    assert images.dtype == torch.uint8
    decoder, counts = images[:, 0, 1].long(), labels != IGNORED
    assert (decoder[:, 0] == translation.BOS).all()
    assert torch.equal(decoder[:, 1:][counts[:, 1:]], labels[:, :-1][counts[:, 1:]])
    assert (decoder[~counts] == translation.PAD).all()
    assert (labels[counts] == translation.EOS).sum() == len(labels), "one end per sentence"
    last = counts.sum(1) - 1
    assert (labels.gather(1, last[:, None]) == translation.EOS).all()
    assert (counts.long().diff(dim=1) <= 0).all(), "padding comes last"


def test_vocabularies(corpora):
    assert len(set(translation.SOURCE)) == len(translation.SOURCE) <= 256
    assert len(set(translation.TARGET)) == len(translation.TARGET) <= 256
    train = corpora[0]
    assert set(train.images[:, 0, 0].unique().tolist()) == set(range(len(translation.SOURCE)))
    seen = set(train.labels[train.labels != IGNORED].tolist())
    # Adjectives are rare beside some genders; nothing but padding and BOS is never a target.
    assert seen >= set(range(2, len(translation.TARGET)))


def test_the_sentences_are_the_same_on_every_machine(tmp_path: Path):
    data = load(DataConfig(name="translation"), tmp_path)
    assert data.fingerprint == load(DataConfig(name="translation"), tmp_path / "other").fingerprint
    assert (data.shape, data.label_shape, data.num_classes) == ((1, 2, 13), (13,), 190)
    assert (len(data.train), len(data.held_out), len(data.test)) == (3600, 400, 1200)
    first = " ".join(translation.source_words(data.test.images[:1])[0])
    assert first == "the women missed this small boat quickly in a street"
