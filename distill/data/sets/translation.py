"""Generate a small synthetic translation task whose true distribution is known.

Source sentences have 4 to 11 English words, of a grammar without ambiguity: subject, verb, object, adverb, place
("the old boy drew a crane often near the market"). Target sentences have German words in another order: the
adjective follows its noun and the verb comes last. Determiners and adjectives agree with the chosen noun in gender
and number, verbs with the subject in number.

Two things are ambiguous: which word is chosen (`lexicon` has the probabilities: 32 of 56 source words have two or
three translations), and where the adverb stands. The translations of four nouns and a verb depend on the place that
the sentence names, which can be learned. All other choices are drawn independently of everything, and cannot be
learned. So the probability of a translation is known (`probability`), and with it the NLL that no model can beat
but by chance (`oracle_nll`).

The sentences are the same on every machine: nothing is read from a file, no library draws, and Python guarantees
the sequence of `random.Random(seed).random()`.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill.config import IGNORED
from distill.data.sets import lexicon
from distill.data.sets.dataset import Split, Splits
from distill.data.sets.lexicon import Inflected, Noun, Plain, Share, Verb

PAD, BOS, EOS = 0, 1, 2
"""Ids of the three tokens of the target vocabulary that are no words; the source vocabulary has only the first."""
TRAIN_SENTENCES, TEST_SENTENCES = 4000, 1200
LENGTH = 13
"""Number of positions of a sequence: the longest translation has 12 words, and EOS follows."""

_SEED = 20190606
_ADJECTIVE, _TRANSITIVE, _ADVERB, _PLACE = 0.5, 0.75, 0.5, 0.6
"""Probabilities that a noun has an adjective, and that a sentence has an object, an adverb, a place."""

Phrases = Mapping[tuple[str, ...], float]
"""The translations of a part of a sentence, with the probability of each."""
Derivation = tuple[float, list[Phrases]]
"""An order of the parts of a sentence: its probability, and the parts in this order.

The parts are independent of each other and of the order.
"""
Word = TypeVar("Word", Noun, Verb, Inflected, Plain)

_SINGULARS = {singular: senses for (singular, _), senses in lexicon.NOUNS.items()}
_PLURALS = {plural: senses for (_, plural), senses in lexicon.NOUNS.items()}
_PLACES = lexicon.COUNTRY_PLACES | lexicon.TOWN_PLACES
_DETERMINERS = lexicon.SINGULAR_DETERMINERS | lexicon.PLURAL_DETERMINERS
_VERBS = lexicon.TRANSITIVE | lexicon.INTRANSITIVE


def _source_words() -> tuple[str, ...]:
    groups = (_DETERMINERS, lexicon.ADJECTIVES, _SINGULARS, _PLURALS, _VERBS, lexicon.ADVERBS)
    return "<pad>", *(word for group in (*groups, lexicon.PREPOSITIONS, _PLACES) for word in group)


def _target_words() -> tuple[str, ...]:
    found = [form for words in _DETERMINERS.values() for word in words for form in word.forms if form]
    for noun in (word for words in _SINGULARS.values() for word in words):
        found += [noun.singular, noun.plural]
    for adjective in (word for words in lexicon.ADJECTIVES.values() for word in words):
        found += [adjective.text + ending for ending in lexicon.ENDINGS]
    for verb in (word for words in _VERBS.values() for word in words):
        found += [verb.singular, verb.plural]
    for plain in (lexicon.ADVERBS, lexicon.PREPOSITIONS):
        found += [part for words in plain.values() for word in words for part in word.text.split()]
    found += [word.singular for words in _PLACES.values() for word in words]
    return "<pad>", "<bos>", "<eos>", *dict.fromkeys(found)


SOURCE = _source_words()
"""Source vocabulary: the word of each id."""
TARGET = _target_words()
"""Target vocabulary: the word of each id. These words are the classes."""


class Corpus(NamedTuple):
    """Sentence pairs as token ids."""

    images: UInt8[Tensor, "n 1 2 t"]
    """Row 0 is the source. Row 1 is the input of a decoder: BOS and the target without its last token. Padded by
    0."""
    labels: Int64[Tensor, "n t"]
    """Label of each position: the target sentence and EOS, padded by -100."""


def generate() -> tuple[Corpus, Corpus]:
    """Generate the training and test sentences; no source occurs twice."""
    numbers = random.Random(_SEED)
    pairs: dict[tuple[str, ...], tuple[str, ...]] = {}
    while len(pairs) < TRAIN_SENTENCES + TEST_SENTENCES:
        source = _source(numbers)
        if source not in pairs:
            pairs[source] = _translation(source, numbers)
    corpus = _corpus(pairs.items())
    train, test = (
        Corpus(corpus.images[part].contiguous(), corpus.labels[part].contiguous())
        for part in (slice(TRAIN_SENTENCES), slice(TRAIN_SENTENCES, None))
    )
    return train, test


def load_translation(_: Path) -> Splits:
    """Generate the data set; its classes are the words of the target vocabulary."""
    train, test = generate()
    return Split(*train), Split(*test), TARGET


def derivations(source: Sequence[str]) -> list[Derivation]:
    """Return the true distribution of translations of a source sentence: orders of its independent parts.

    Raises:
        ValueError: the grammar has no such sentence.
    """
    try:
        return _parse(source)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{' '.join(source)!r} is not a sentence of the source language") from error


def probability(source: Sequence[str], target: Sequence[str]) -> float:
    """Return the true probability of a translation; 0 for an impossible one.

    Raises:
        ValueError: the grammar has no such source sentence.
    """
    words = tuple(target)
    return math.fsum(weight * _probability(parts, words) for weight, parts in derivations(source))


def oracle_nll(images: UInt8[Tensor, "n 1 2 t"], labels: Int64[Tensor, "n t"]) -> float:
    """Return the NLL of the true distribution, in nats per target token, EOS included."""
    # By the chain rule the sum over the tokens of a sentence is minus the logarithm of its probability.
    sentences = zip(source_words(images), target_words(labels), strict=True)
    total = math.fsum(-math.log(probability(source, target)) for source, target in sentences)
    return total / int((labels != IGNORED).sum())


def source_words(images: UInt8[Tensor, "n 1 2 t"]) -> list[tuple[str, ...]]:
    """Return the words of the source sentences."""
    return [tuple(SOURCE[token] for token in row if token != PAD) for row in images[:, 0, 0].tolist()]


def target_words(labels: Int64[Tensor, "n t"]) -> list[tuple[str, ...]]:
    """Return the words of the target sentences, each up to its EOS."""
    return [words_of(token for token in row if token != IGNORED) for row in labels.tolist()]


def words_of(tokens: Iterable[int]) -> tuple[str, ...]:
    """Return the target words of some token ids, up to EOS."""
    words = []
    for token in tokens:
        if token == EOS:
            break
        words.append(TARGET[token])
    return tuple(words)


def _source(numbers: random.Random) -> tuple[str, ...]:
    """Draw one sentence of the source language."""
    words = _source_noun_phrase(numbers)
    transitive = numbers.random() < _TRANSITIVE
    words.append(_any(lexicon.TRANSITIVE if transitive else lexicon.INTRANSITIVE, numbers))
    if transitive:
        words += _source_noun_phrase(numbers)
    if numbers.random() < _ADVERB or not transitive:
        words.append(_any(lexicon.ADVERBS, numbers))
    if numbers.random() < _PLACE:
        words += [_any(lexicon.PREPOSITIONS, numbers), _any(("the", "a"), numbers), _any(_PLACES, numbers)]
    return tuple(words)


def _source_noun_phrase(numbers: random.Random) -> list[str]:
    plural = numbers.random() < 0.5
    words = [_any(lexicon.PLURAL_DETERMINERS if plural else lexicon.SINGULAR_DETERMINERS, numbers)]
    if numbers.random() < _ADJECTIVE:
        words.append(_any(lexicon.ADJECTIVES, numbers))
    return [*words, _any(_PLURALS if plural else _SINGULARS, numbers)]


def _any(words: Iterable[str], numbers: random.Random) -> str:
    listed = list(words)
    return listed[int(numbers.random() * len(listed))]


def _translation(source: Sequence[str], numbers: random.Random) -> tuple[str, ...]:
    """Draw one translation from the true distribution."""
    orders = derivations(source)
    parts = orders[_draw([weight for weight, _ in orders], numbers)][1]
    phrases = [list(part)[_draw(part.values(), numbers)] for part in parts]
    return tuple(word for phrase in phrases for word in phrase)


def _draw(shares: Iterable[float], numbers: random.Random) -> int:
    """Draw an index by inversion, with the given shares as probabilities."""
    listed = list(shares)
    left = numbers.random()
    for index, share in enumerate(listed):
        left -= share
        if left < 0:
            return index
    return len(listed) - 1  # the shares sum to one only up to rounding


def _parse(source: Sequence[str]) -> list[Derivation]:
    words = deque(source)
    topic = _topic(source)
    subject, number = _noun_phrase(words, topic)
    verb_word = words.popleft()
    verb = {(verb.plural if number else verb.singular,): share for share, verb in _shares(_VERBS[verb_word], topic)}
    middle = [_noun_phrase(words, topic)[0]] if verb_word in lexicon.TRANSITIVE else []
    adverb = _plain(lexicon.ADVERBS[words.popleft()], topic) if words and words[0] in lexicon.ADVERBS else None
    place = []
    if words:
        preposition = _plain(lexicon.PREPOSITIONS[words.popleft()], topic)
        place = [preposition, _noun_phrase(words, topic)[0]]
    if words:
        raise KeyError(words[0])
    if adverb is None:
        return [(1.0, [subject, *middle, *place, verb])]
    return [
        (lexicon.ADVERB_FIRST, [adverb, subject, *middle, *place, verb]),
        (1 - lexicon.ADVERB_FIRST, [subject, *middle, adverb, *place, verb]),
    ]


def _topic(source: Iterable[str]) -> int:
    """Return which share counts: 0 for a place in the country, 1 for no place, 2 for a place in town."""
    for word in source:
        if word in _PLACES:
            return 0 if word in lexicon.COUNTRY_PLACES else 2
    return 1


def _noun_phrase(words: deque[str], topic: int) -> tuple[Phrases, int]:
    """Take a noun phrase from the start of `words`; return its translations, and whether it is plural."""
    determiner = words.popleft()
    adjective = lexicon.ADJECTIVES[words.popleft()] if words[0] in lexicon.ADJECTIVES else None
    noun_word = words.popleft()
    plural = int(noun_word in _PLURALS)
    determiners = (lexicon.PLURAL_DETERMINERS if plural else lexicon.SINGULAR_DETERMINERS)[determiner]
    nouns = _PLURALS[noun_word] if plural else {**_SINGULARS, **_PLACES}[noun_word]
    found: dict[tuple[str, ...], float] = {}
    for noun_share, noun in _shares(nouns, topic):
        form = 3 if plural else lexicon.GENDERS.index(noun.gender)
        for determiner_share, chosen in _shares(determiners, topic):
            start = chosen.forms[form], noun.plural if plural else noun.singular
            share = noun_share * determiner_share
            if adjective is None:
                found[start] = share
                continue
            for adjective_share, stem in _shares(adjective, topic):
                found[*start, stem.text + lexicon.ENDINGS[form]] = share * adjective_share
    return found, plural


def _plain(words: tuple[Plain, ...], topic: int) -> Phrases:
    return {tuple(word.text.split()): share for share, word in _shares(words, topic)}


def _shares(words: tuple[Word, ...], topic: int) -> list[tuple[float, Word]]:
    return [(_share(word.share, topic), word) for word in words]


def _share(share: Share, topic: int) -> float:
    return share[topic] if isinstance(share, tuple) else share


def _probability(parts: Sequence[Phrases], target: tuple[str, ...]) -> float:
    """Return the probability that the parts, one after the other, become this target."""
    if not parts:
        return float(not target)
    return math.fsum(
        share * _probability(parts[1:], target[len(phrase) :])
        for phrase, share in parts[0].items()
        if target[: len(phrase)] == phrase
    )


def _corpus(pairs: Iterable[tuple[tuple[str, ...], tuple[str, ...]]]) -> Corpus:
    source_ids = {word: index for index, word in enumerate(SOURCE)}
    target_ids = {word: index for index, word in enumerate(TARGET)}

    def padded(tokens: list[int], padding: int) -> list[int]:
        return tokens + [padding] * (LENGTH - len(tokens))

    images, labels = [], []
    for source, target in pairs:
        tokens = [target_ids[word] for word in target]
        images.append([padded([source_ids[word] for word in source], PAD), padded([BOS, *tokens], PAD)])
        labels.append(padded([*tokens, EOS], IGNORED))
    return Corpus(torch.tensor(images, dtype=torch.uint8)[:, None], torch.tensor(labels))
