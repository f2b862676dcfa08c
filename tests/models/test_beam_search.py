"""Beam search against brute force, greedy search and hand-made models."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.models.beam_search import beam_search, scorer
from distill.models.transformer import Transformer

BOS, EOS, WORDS, LONGEST = 0, 1, 4, 4


def bigram(seed: int):
    """A model whose logits depend on the sentence, the last token and the position."""
    table = torch.randn(3, LONGEST, WORDS, WORDS, generator=torch.Generator().manual_seed(seed)) * 2

    def score(prefix: torch.Tensor) -> torch.Tensor:
        sentence = torch.arange(len(prefix))[:, None]
        return table[sentence, prefix.shape[-1] - 1, prefix[..., -1]]

    return score


def log_probability(score, sentence: int, tokens: tuple[int, ...], temperature: float) -> float:
    total, prefix = 0.0, [BOS]
    for token in tokens:
        rows = torch.tensor(prefix).expand(3, 1, -1)
        total += float((score(rows)[sentence, 0] / temperature).log_softmax(0)[token])
        prefix.append(token)
    return total


def search(score, **kwargs) -> list[tuple[int, ...]]:
    tokens = beam_search(score, 3, bos=BOS, eos=EOS, max_length=LONGEST, **kwargs).tolist()
    return [tuple(row[: row.index(EOS) + 1]) if EOS in row else tuple(row) for row in tokens]


def every_sentence() -> list[tuple[int, ...]]:
    others = [token for token in range(WORDS) if token != EOS]
    return [(*words, EOS) for length in range(LONGEST) for words in itertools.product(others, repeat=length)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("temperature", "length_penalty"), [(1.0, 0.0), (1.0, 0.6), (0.5, 0.6), (3.0, 1.0)])
def test_a_beam_that_holds_every_sentence_finds_the_best(seed: int, temperature: float, length_penalty: float):
    score = bigram(seed)
    best = search(score, beam=WORDS**LONGEST, temperature=temperature, length_penalty=length_penalty)
    for sentence in range(3):

        def value(tokens: tuple[int, ...], sentence: int = sentence) -> float:
            penalty = ((5 + len(tokens)) / 6) ** length_penalty
            return log_probability(score, sentence, tokens, temperature) / penalty

        assert best[sentence] == max(every_sentence(), key=value)


@given(seed=st.integers(0, 1000), temperature=st.floats(0.1, 10), length_penalty=st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_beam_one_is_greedy_at_every_temperature(seed: int, temperature: float, length_penalty: float):
    score = bigram(seed)
    prefix = torch.full((3, 1, 1), BOS)
    for _ in range(LONGEST):
        prefix = torch.cat([prefix, score(prefix).argmax(-1, keepdim=True)], dim=-1)
    greedy = [tuple(row) for row in prefix[:, 0, 1:].tolist()]
    expected = [row[: row.index(EOS) + 1] if EOS in row else row for row in greedy]
    assert search(score, beam=1, temperature=temperature, length_penalty=length_penalty) == expected


def model_of(probabilities: dict[tuple[int, ...], list[float]], default: list[float]):
    def score(prefix: torch.Tensor) -> torch.Tensor:
        rows = [probabilities.get(tuple(row[1:]), default) for row in prefix.flatten(0, 1).tolist()]
        return torch.tensor(rows).log().unflatten(0, prefix.shape[:2])

    return score


def test_a_wider_beam_finds_what_greedy_search_walks_past():
    # Greedy takes token 2 first; the best sentence, 3 EOS with 0.4 x 0.9, begins with the second best token.
    score = model_of({(): [0, 0, 0.6, 0.4], (3,): [0, 0.9, 0.05, 0.05]}, [0, 0.3, 0.35, 0.35])
    assert search(score, beam=2, length_penalty=0)[0] == (3, EOS)
    assert search(score, beam=1, length_penalty=0)[0][0] == 2


def test_the_length_penalty_favours_the_longer_sentence():
    # EOS at once: log 0.52 = -0.65. Two words and EOS: log 0.48 = -0.73, but over (8/6)^0.6 = 1.19 that is -0.62.
    score = model_of({(): [0, 0.52, 0.48, 0], (2,): [0, 0, 0, 1.0], (2, 3): [0, 1.0, 0, 0]}, [0.25] * 4)
    assert search(score, beam=4, length_penalty=0)[0] == (EOS,)
    assert search(score, beam=4, length_penalty=0.6)[0] == (2, 3, EOS)


def test_a_sentence_without_an_end_is_cut():
    never = model_of({}, [0, 0, 0.7, 0.3])
    assert search(never, beam=2)[0] == (2,) * LONGEST


def test_what_ended_is_preferred_to_what_did_not():
    # After token 2, which is likelier at first, nothing ends.
    score = model_of({(): [0, 0.1, 0.9, 0], (2,): [0, 0, 1.0, 0]}, [0, 0, 1.0, 0])
    assert search(score, beam=2)[0] == (EOS,)


def test_everything_after_the_end_is_the_end():
    lengths = torch.tensor([1, 3, 2])

    def score(prefix: torch.Tensor) -> torch.Tensor:
        ends = (prefix.shape[-1] >= lengths)[:, None, None].expand(-1, prefix.shape[1], 1)
        logits = torch.tensor([0.0, 0.0, 50.0, 0.0]).expand(*prefix.shape[:2], 4)
        return torch.where(ends, torch.tensor([0.0, 50.0, 0.0, 0.0]), logits)

    tokens = beam_search(score, 3, bos=BOS, eos=EOS, beam=1, max_length=6)
    assert tokens.tolist() == [[1, 1, 1], [2, 2, 1], [2, 1, 1]]


def test_a_transformer_is_searched_as_its_logits_say():
    torch.manual_seed(0)
    model = Transformer(9, (1, 2, 6), width=8, layers=1, heads=2).eval()
    source = torch.tensor([[3, 4, 5, 0, 0, 0], [6, 7, 3, 4, 5, 8]])
    with torch.inference_mode():
        tokens = beam_search(scorer(model, source, 1), 2, bos=1, eos=2, beam=1, max_length=6)
        decoder = torch.zeros(2, 6, dtype=torch.long)
        decoder[:, 0] = 1
        for at in range(tokens.shape[1]):
            greedy = model(torch.stack([source, decoder], 1)[:, None].float())[:, at].argmax(-1)
            going = (tokens[:, :at] != 2).all(1)
            assert torch.equal(tokens[going, at], greedy[going])
            if at + 1 < 6:
                decoder[:, at + 1] = greedy
