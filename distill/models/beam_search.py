"""Find the most probable sentences of a model that gives the logits of the next token, by beam search."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from distill.models.transformer import Transformer

Scorer = Callable[["Int64[Tensor, 's b t']"], "Float[Tensor, 's b k']"]
"""A function from prefixes [s, b, t] to logits [s, b, k] of their next tokens.

The prefixes are of `b` hypotheses for each of `s` sentences and start with BOS.
"""


def beam_search(
    score: Scorer,
    sentences: int,
    *,
    bos: int,
    eos: int,
    beam: int,
    max_length: int,
    temperature: float = 1.0,
    length_penalty: float = 0.6,
    device: str = "cpu",
) -> Int64[Tensor, "s t"]:
    """Find the best hypothesis for each sentence, by log-probability / ((5 + length) / 6) ** length_penalty.

    A finished hypothesis keeps its place in the beam as long as it is among the best. So a beam of 1 is greedy
    search, and a beam that holds every sentence finds the best one. A hypothesis without EOS after `max_length`
    tokens is only taken where there is no finished one. The length penalty is equation 14 of Wu et al. 2016 without
    coverage; length counts EOS.

    Args:
        score: function that gives the model's logits.
        sentences: number of sentences.
        bos: first token of every prefix.
        eos: token that ends a sentence.
        beam: number of hypotheses kept for each sentence.
        max_length: largest number of tokens of a hypothesis, EOS included.
        temperature: divisor of the logits.
        length_penalty: exponent; 0 does not penalise.
        device: device of the model.

    Returns:
        Tokens without BOS; EOS and all that follows it in the row are EOS.
    """
    prefix = torch.full((sentences, beam, 1), bos, device=device)
    # All hypotheses are equal at first, so only one of them counts.
    total = torch.full((sentences, beam), -torch.inf, device=device)
    total[:, 0] = 0
    length = torch.zeros_like(total)
    finished = torch.zeros_like(total, dtype=torch.bool)
    for _ in range(max_length):
        step = (score(prefix).float() / temperature).log_softmax(-1)
        classes = step.shape[-1]
        # A finished hypothesis can only go on with EOS, at no cost.
        step = step.masked_fill(finished[..., None], -torch.inf)
        step[..., eos] = step[..., eos].masked_fill(finished, 0)
        length = length + ~finished
        candidates = (total[..., None] + step) / _penalty(length, length_penalty)[..., None]
        best = candidates.flatten(1).topk(beam).indices
        parent, token = best // classes, best % classes
        total = (total[..., None] + step).flatten(1).gather(1, best)
        length = length.gather(1, parent)
        finished = token == eos
        prefix = prefix.gather(1, parent[..., None].expand(-1, -1, prefix.shape[-1]))
        prefix = torch.cat([prefix, token[..., None]], dim=-1)
        if bool((finished | (total == -torch.inf)).all()):
            break
    ranked = (total / _penalty(length, length_penalty)).masked_fill(~finished, -torch.inf)
    # The beam is sorted: where no hypothesis is finished, argmax takes the first one, which is the best.
    chosen = ranked.argmax(1)
    return prefix[torch.arange(sentences, device=device), chosen, 1:]


def scorer(model: Transformer, source: Int64[Tensor, "s t"], beam: int) -> Scorer:
    """Return the function that gives the next-token logits of a Transformer in evaluation mode.

    The source, on the device of the model, is encoded once. `beam` is the number of hypotheses for each sentence.
    """
    memory, padded = (each.repeat_interleave(beam, 0) for each in model.encode(source))

    def score(prefix: Int64[Tensor, "s b t"]) -> Float[Tensor, "s b k"]:
        last = model.decode(memory, padded, prefix.flatten(0, 1))[:, -1]
        return model.head(last).unflatten(0, prefix.shape[:2])

    return score


def _penalty(length: Float[Tensor, "s b"], exponent: float) -> Float[Tensor, "s b"]:
    return ((5 + length) / 6) ** exponent
