"""Measure the quality of a translation network's sentences, found by beam search at several temperatures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.config import TranslationProbe
from distill.data.sets import translation
from distill.errors import UserError
from distill.metrics.measured import Measured
from distill.metrics.measures import Measure, Topic
from distill.models.beam_search import beam_search, scorer
from distill.models.transformer import Transformer
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_network, network_config, training_data

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

_TOPIC = Topic("Translation")
MEASURES = (
    Measure("bleu", "BLEU", "×100", 1, _TOPIC, stands_alone=True),
    Measure("bleu_highest", "highest BLEU", "×100", 1, _TOPIC, stands_alone=True),
    Measure("exact_match", "exact", "%", 1, _TOPIC),
    Measure("possible_translation", "possible", "%", 1, _TOPIC),
    Measure("oracle_nll", "oracle NLL", "nats", 3, _TOPIC),
)
_BATCH = 100
"""Number of sentences that are decoded together."""
Sentence = tuple[str, ...]


def probe_translation(config: TranslationProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure BLEU against temperature on the first sentences of the test set, and other measures at temperature 1.

    Returns:
        Values; all but the NLL are shares in 0 to 1:

        - `bleu`: BLEU at temperature 1 (Papineni et al. 2002: corpus level, up to four words, one reference).
        - `bleu_highest`: BLEU at the best of the temperatures asked for.
        - `exact_match`: share of sentences at temperature 1 that equal the reference.
        - `possible_translation`: share of sentences at temperature 1 that are a translation at all, since several
          are right.
        - `oracle_nll`: NLL in nats per token of the true distribution on the whole test set.

        Curves: `quality_temperatures` and `bleu_by_temperature`, of one length.

    Raises:
        UserError: the network is no Transformer of the translation data set.
    """
    trained = network_config(network)
    model = load_network(network, runtime.torch_device())
    if trained.data.name != "translation" or not isinstance(model, Transformer):
        value = f"{trained.model.name} on {trained.data.name}"
        way_out = "Set --data.name translation --model.name transformer."
        raise UserError("network", value, "a transformer on translation", way_out)
    test = training_data(network, runtime).test
    images = test.images[: config.sentences]
    references = translation.target_words(test.labels[: config.sentences])
    found = {at: _translations(config, model, images, at) for at in sorted({*config.temperatures, 1.0})}
    bleu = {at: _bleu(sentences, references) for at, sentences in found.items()}
    pairs = list(zip(translation.source_words(images), found[1.0], references, strict=True))
    possible = sum(translation.probability(source, ours) > 0 for source, ours, _ in pairs)
    return Measured(
        {
            "bleu": bleu[1.0],
            "bleu_highest": max(bleu[at] for at in config.temperatures),
            "exact_match": sum(ours == reference for _, ours, reference in pairs) / len(pairs),
            "possible_translation": possible / len(pairs),
            "oracle_nll": translation.oracle_nll(test.images, test.labels),
        },
        {
            "quality_temperatures": list(config.temperatures),
            "bleu_by_temperature": [bleu[at] for at in config.temperatures],
        },
    )


def _translations(
    config: TranslationProbe, model: Transformer, images: UInt8[Tensor, "n 1 2 t"], temperature: float
) -> list[Sentence]:
    """Return the network's sentences, in the order of the images."""
    sources = images[:, 0, 0].long()
    # Sorted by length, the sentences of a batch end at about the same time: no batch waits for one long sentence.
    order = (sources != translation.PAD).sum(1).argsort(stable=True)
    found: dict[int, Sentence] = {}
    device = next(model.parameters()).device
    for rows in order.split(_BATCH):
        with torch.inference_mode():
            tokens = beam_search(
                scorer(model, sources[rows].to(device), config.beam),
                len(rows),
                bos=translation.BOS,
                eos=translation.EOS,
                beam=config.beam,
                max_length=translation.LENGTH,
                temperature=temperature,
                length_penalty=config.length_penalty,
                device=str(device),
            )
        found |= dict(zip(rows.tolist(), map(translation.words_of, tokens.tolist()), strict=True))
    return [found[row] for row in range(len(images))]


def _bleu(ours: list[Sentence], references: list[Sentence]) -> float:
    from torchmetrics.functional.text import bleu_score

    return float(bleu_score([" ".join(words) for words in ours], [[" ".join(words)] for words in references]))
