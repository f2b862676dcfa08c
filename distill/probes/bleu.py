"""Measure the quality of a translation network's sentences, which beam search writes at several temperatures."""

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
    # Corpus level, up to four words, one reference (Papineni et al. 2002).
    Measure("bleu", "BLEU", "×100", 1, _TOPIC, stands_alone=True, what="BLEU at temperature 1"),
    Measure("bleu_highest", "highest BLEU", "×100", 1, _TOPIC, stands_alone=True, what="at the best temperature"),
    Measure("exact_match", "exact", "%", 1, _TOPIC, what="sentences that equal the reference"),
    Measure("possible_translation", "possible", "%", 1, _TOPIC, what="sentences that are a translation at all"),
    Measure("oracle_nll", "oracle NLL", "nats", 3, _TOPIC, what="NLL per token of the true distribution"),
)
_BATCH = 100
"""Number of sentences that are decoded together."""
Sentence = tuple[str, ...]


def probe_translation(config: TranslationProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure BLEU against temperature on the first sentences of the test set, and other measures at temperature 1.

    Returns:
        Values: all of `MEASURES`; all but the NLL are shares in 0 to 1. Several translations of a sentence are
        right. The NLL is of the whole test set.

        Curves: `quality_temperatures` and `bleu_by_temperature`, of one length.

    Raises:
        UserError: the network is no Transformer of the translation data set.
    """
    trained = network_config(network)
    model = load_network(network, runtime.torch_device())
    if trained.data.name != "translation" or not isinstance(model, Transformer):
        value = f"{trained.model.name} on {trained.data.name}"
        way_out = "Train one with `data.name=translation` and `model.name=transformer`."
        raise UserError("network", value, "a transformer on translation", way_out)
    test = training_data(network, runtime).test
    every = test.pixels(torch.arange(len(test)))
    images = every[: config.sentences]
    references = translation.target_words(test.labels[: config.sentences])
    written = {at: _translations(config, model, images, at) for at in sorted({*config.temperatures, 1.0})}
    bleu = {at: bleu_of(sentences, references) for at, sentences in written.items()}
    pairs = list(zip(translation.source_words(images), written[1.0], references, strict=True))
    possible = sum(translation.probability(source, ours) > 0 for source, ours, _ in pairs)
    return Measured(
        {
            "bleu": bleu[1.0],
            "bleu_highest": max(bleu[at] for at in config.temperatures),
            "exact_match": sum(ours == reference for _, ours, reference in pairs) / len(pairs),
            "possible_translation": possible / len(pairs),
            "oracle_nll": translation.oracle_nll(every, test.labels),
        },
        {
            "quality_temperatures": list(config.temperatures),
            "bleu_by_temperature": [bleu[at] for at in config.temperatures],
        },
    )


def _translations(
    config: TranslationProbe, model: Transformer, images: UInt8[Tensor, "n 1 2 t"], temperature: float
) -> list[Sentence]:
    """Translate source sentences, given as token images, and return the translations in the same order."""
    sources = images[:, 0, 0].long()
    # Sorted by length, the sentences of a batch end at about the same time: no batch waits for one long sentence.
    order = (sources != translation.PAD).sum(1).argsort(stable=True)
    sentences: dict[int, Sentence] = {}
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
        sentences |= dict(zip(rows.tolist(), map(translation.words_of, tokens.tolist()), strict=True))
    return [sentences[row] for row in range(len(images))]


def bleu_of(ours: list[Sentence], references: list[Sentence]) -> float:
    """Return the BLEU of sentences, each with one reference, in 0 to 1 (Papineni et al. 2002)."""
    from torchmetrics.functional.text import bleu_score

    return float(bleu_score([" ".join(words) for words in ours], [[" ".join(words)] for words in references]))
