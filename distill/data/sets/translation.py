"""Generate a small synthetic translation task whose true distribution is known.

Source sentences have 4 to 11 English words, of a grammar without ambiguity: subject, verb, object, adverb, place
("the old boy drew a crane often near the market"). Target sentences have German words in another order: the
adjective follows its noun and the verb comes last. Determiners and adjectives agree with the chosen noun in gender
and number, verbs with the subject in number.

Two things are ambiguous: which word is chosen (`lexicon` has the probabilities: 32 of 56 source words have two or
three translations), and where the adverb stands. The translations of four nouns and a verb depend on the place that
the sentence names, which can be learned. All other choices are drawn independently of everything, and cannot be
learned. So the probability of a translation is known (`probability`), and with it the NLL that a model can beat by
chance only (`oracle_nll`).

The sentences are equal on every machine: nothing is read from a file, no library draws, and Python guarantees
the sequence of `random.Random(seed).random()`.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill.config import IGNORED
from distill.data.sets import lexicon
from distill.data.sets.dataset import Split, Splits
from distill.data.sets.lexicon import Word

PAD, BOS, EOS = 0, 1, 2
"""Ids of the three tokens of the target vocabulary that are no words; the source vocabulary has only the first."""
TRAIN_SENTENCES, TEST_SENTENCES = 4000, 1200
LENGTH = 13
"""Number of positions of a sequence: the longest translation has 12 words, and EOS follows."""

_SEED = 20190606
_ADJECTIVE, _TRANSITIVE, _ADVERB, _PLACE = 0.5, 0.75, 0.5, 0.6
"""Probabilities that a noun has an adjective, and that a sentence has an object, an adverb, a place."""

Sentence = tuple[str, ...]
Phrases = Mapping[Sentence, float]
"""The translations of a part of a sentence, with the probability of each."""
Derivation = tuple[float, list[Phrases]]
"""An order of the parts of a sentence: its probability, and the parts in this order.

The parts are independent of each other and of the order.
"""

_SINGULARS = {singular: translations for (singular, _), translations in lexicon.NOUNS.items()}
_PLURALS = {plural: translations for (_, plural), translations in lexicon.NOUNS.items()}
_PLACES = lexicon.COUNTRY_PLACES | lexicon.TOWN_PLACES
_DETERMINERS = lexicon.SINGULAR_DETERMINERS | lexicon.PLURAL_DETERMINERS
_VERBS = lexicon.TRANSITIVE | lexicon.INTRANSITIVE
_OTHERS = (_VERBS, lexicon.ADVERBS, lexicon.PREPOSITIONS, _PLACES)
_SOURCES = (_DETERMINERS, lexicon.ADJECTIVES, _SINGULARS, _PLURALS, *_OTHERS)

SOURCE = ("<pad>", *(word for group in _SOURCES for word in group))
"""Source vocabulary: the word of each id."""


def _target_words() -> Iterable[str]:
    for group in (_DETERMINERS, _SINGULARS, lexicon.ADJECTIVES, *_OTHERS):
        for translations in group.values():
            for word in translations:
                for form in word.forms:
                    yield from form.split()


TARGET = ("<pad>", "<bos>", "<eos>", *dict.fromkeys(_target_words()))
"""Target vocabulary: the word of each id. These words are the classes."""


def generate() -> tuple[Split, Split]:
    """Generate the training and test sentences as token ids; no source occurs twice.

    Row 0 of an image [1, 2, t] is the source. Row 1 is the input of a decoder: BOS and the target without its last
    token. Both are padded by 0. The labels [t] are the target and EOS, padded by `config.IGNORED`.
    """
    numbers = random.Random(_SEED)
    pairs: dict[Sentence, Sentence] = {}
    while len(pairs) < TRAIN_SENTENCES + TEST_SENTENCES:
        source = _source(numbers)
        if source not in pairs:
            pairs[source] = _translation(source, numbers)
    listed = list(pairs.items())
    return _as_tokens(listed[:TRAIN_SENTENCES]), _as_tokens(listed[TRAIN_SENTENCES:])


def load_translation(_: Path) -> Splits:
    """Generate the data set; its classes are the words of the target vocabulary."""
    return *generate(), TARGET


def derivations(source: Sequence[str]) -> list[Derivation]:
    """Return every order in which the phrases of a sentence may be translated, with its probability and the
    possible translations of each phrase.

    Raises:
        ValueError: the source is no sentence of the grammar.
    """
    try:
        return _parse(source)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{' '.join(source)!r} is not a sentence of the source language") from error


def probability(source: Sequence[str], target: Sequence[str]) -> float:
    """Return the true probability of a translation; 0 for an impossible one.

    Raises:
        ValueError: the source is no sentence of the grammar.
    """
    words = tuple(target)
    return math.fsum(weight * _probability(parts, words) for weight, parts in derivations(source))


def oracle_nll(images: UInt8[Tensor, "n 1 2 t"], labels: Int64[Tensor, "n t"]) -> float:
    """Return the NLL of the true distribution, in nats per target token, EOS included."""
    # By the chain rule the sum over the tokens of a sentence is minus the logarithm of its probability.
    sentences = zip(source_words(images), target_words(labels), strict=True)
    total = math.fsum(-math.log(probability(source, target)) for source, target in sentences)
    return total / int((labels != IGNORED).sum())


def source_words(images: UInt8[Tensor, "n 1 2 t"]) -> list[Sentence]:
    """Return the words of the source sentences."""
    return [tuple(SOURCE[token] for token in row if token != PAD) for row in images[:, 0, 0].tolist()]


def target_words(labels: Int64[Tensor, "n t"]) -> list[Sentence]:
    """Return the words of the target sentences, each up to its EOS."""
    return [words_of(row) for row in labels.tolist()]


def words_of(tokens: Iterable[int]) -> Sentence:
    """Return the target words of token ids up to the first EOS."""
    return tuple(TARGET[token] for token in takewhile(lambda token: token != EOS, tokens))


def _source(numbers: random.Random) -> Sentence:
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


def _translation(source: Sentence, numbers: random.Random) -> Sentence:
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
    topic = topic_of(source)
    subject, plural = _noun_phrase(words, topic)
    verb = words.popleft()
    last = _phrases(_VERBS[verb], topic, plural)
    middle = [_noun_phrase(words, topic)[0]] if verb in lexicon.TRANSITIVE else []
    adverb = _phrases(lexicon.ADVERBS[words.popleft()], topic) if words and words[0] in lexicon.ADVERBS else None
    place = []
    if words:
        preposition = _phrases(lexicon.PREPOSITIONS[words.popleft()], topic)
        place = [preposition, _noun_phrase(words, topic)[0]]
    if words:
        raise KeyError(words[0])
    if adverb is None:
        return [(1.0, [subject, *middle, *place, last])]
    return [
        (lexicon.ADVERB_FIRST, [adverb, subject, *middle, *place, last]),
        (1 - lexicon.ADVERB_FIRST, [subject, *middle, adverb, *place, last]),
    ]


def topic_of(source: Iterable[str]) -> int:
    """Return which of a word's three translation probabilities applies: 0 if the sentence names a place in the
    country, 1 if it names no place, 2 if it names a place in town.
    """
    place = next((word for word in source if word in _PLACES), None)
    return 1 if place is None else 0 if place in lexicon.COUNTRY_PLACES else 2


def _noun_phrase(words: deque[str], topic: int) -> tuple[Phrases, int]:
    """Take a noun phrase from the start of `words`; return its translations, and 1 if it is plural, else 0."""
    determiner = words.popleft()
    adjectives = _shares(lexicon.ADJECTIVES[words.popleft()], topic) if words[0] in lexicon.ADJECTIVES else None
    noun_word = words.popleft()
    plural = int(noun_word in _PLURALS)
    determiners = (lexicon.PLURAL_DETERMINERS if plural else lexicon.SINGULAR_DETERMINERS)[determiner]
    nouns = _PLURALS[noun_word] if plural else (_SINGULARS | _PLACES)[noun_word]
    phrases: dict[Sentence, float] = {}
    for noun_share, noun in _shares(nouns, topic):
        form = 3 if plural else lexicon.GENDERS.index(noun.gender)
        for determiner_share, chosen in _shares(determiners, topic):
            start, share = (chosen.forms[form], noun.forms[plural]), noun_share * determiner_share
            if adjectives is None:
                phrases[start] = share
            else:
                phrases |= {(*start, word.forms[form]): share * its_share for its_share, word in adjectives}
    return phrases, plural


def _phrases(words: Iterable[Word], topic: int, form: int = 0) -> Phrases:
    return {tuple(word.forms[form].split()): share for share, word in _shares(words, topic)}


def _shares(words: Iterable[Word], topic: int) -> list[tuple[float, Word]]:
    return [(word.share[topic] if isinstance(word.share, tuple) else word.share, word) for word in words]


def _probability(parts: Sequence[Phrases], target: Sentence) -> float:
    """Return the probability that the given phrases, translated one after the other, together read `target`."""
    if not parts:
        return float(not target)
    return math.fsum(
        share * _probability(parts[1:], target[len(phrase) :])
        for phrase, share in parts[0].items()
        if target[: len(phrase)] == phrase
    )


def _as_tokens(pairs: Iterable[tuple[Sentence, Sentence]]) -> Split:
    source_ids = {word: index for index, word in enumerate(SOURCE)}
    target_ids = {word: index for index, word in enumerate(TARGET)}

    def padded(tokens: list[int], padding: int) -> list[int]:
        return tokens + [padding] * (LENGTH - len(tokens))

    images, labels = [], []
    for source, target in pairs:
        tokens = [target_ids[word] for word in target]
        images.append([padded([source_ids[word] for word in source], PAD), padded([BOS, *tokens], PAD)])
        labels.append(padded([*tokens, EOS], IGNORED))
    return Split(torch.tensor(images, dtype=torch.uint8)[:, None], torch.tensor(labels))
