"""The translation probe on hand-made networks: one that knows the answers, and one that knows nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distill.config import DataConfig, ModelConfig, TeacherConfig, TranslationProbe
from distill.data.sets import translation
from distill.data.sets.load import load
from distill.errors import UserError
from distill.models.transformer import Transformer
from distill.probes import bleu as probing

CONFIG = TeacherConfig(data=DataConfig(name="translation"), model=ModelConfig(name="transformer"))
SENTENCES = 30


class Dictionary(Transformer):
    """Knows the reference of every test sentence by heart, and the first `wrong` of them wrongly."""

    def __init__(self, wrong: int = 0):
        nn.Module.__init__(self)
        _, test = translation.generate()
        self.known = {}
        for row, (source, labels) in enumerate(zip(test.images[:, 0, 0], test.labels, strict=True)):
            tokens = labels.clamp(min=0).tolist()
            self.known[tuple(source.tolist())] = [7, *tokens[1:]] if row < wrong else tokens
        self.weight = nn.Parameter(torch.zeros(1))
        self.head = nn.Identity()

    def encode(self, source):
        return source, source == 0

    def decode(self, memory, padded, prefix):
        """Here the features are the logits."""
        next_tokens = [self.known[tuple(row)][prefix.shape[1] - 1] for row in memory.tolist()]
        logits = torch.nn.functional.one_hot(torch.tensor(next_tokens), len(translation.TARGET)) * 20.0
        return logits[:, None].expand(-1, prefix.shape[1], -1)


def probe(model: nn.Module, runtime, monkeypatch: pytest.MonkeyPatch, **kwargs):
    monkeypatch.setattr(probing, "load_network", lambda *_: model)
    monkeypatch.setattr(probing, "network_config", lambda _: CONFIG)
    monkeypatch.setattr(probing, "training_data", lambda *_: load(CONFIG.data, runtime.data_root))
    config = TranslationProbe(**{"temperatures": (1.0,), "sentences": SENTENCES, "beam": 2, **kwargs})
    return probing.probe_translation(config, SimpleNamespace(), runtime, Path())  # pyright: ignore[reportArgumentType]


def test_who_knows_the_references_is_perfect_at_every_temperature(runtime, monkeypatch):
    found = probe(Dictionary(), runtime, monkeypatch, temperatures=(0.5, 2.0))
    _, test = translation.generate()
    assert found.values == {
        "bleu": pytest.approx(1),
        "bleu_highest": pytest.approx(1),
        "exact_match": 1,
        "possible_translation": 1,
        "oracle_nll": translation.oracle_nll(test.images, test.labels),
    }
    assert found.curves["quality_temperatures"] == [0.5, 2.0]
    assert found.curves["bleu_by_temperature"] == pytest.approx([1, 1])


def test_sentences_are_put_back_in_their_order(runtime, monkeypatch):
    # A wrong first word leaves the rest of the sentence alone: neither the reference nor any translation.
    found = probe(Dictionary(wrong=6), runtime, monkeypatch)
    assert found.values["exact_match"] == pytest.approx((SENTENCES - 6) / SENTENCES)
    assert found.values["possible_translation"] == pytest.approx((SENTENCES - 6) / SENTENCES)
    assert 0.5 < found.values["bleu"] < 1


def test_bleu_by_hand():
    # 3 of 5 words, 2 of 4 pairs, 1 of 3 triples, none of four: no four words in common gives zero.
    assert probing.bleu_of([("a", "b", "c", "x", "y")], [("a", "b", "c", "d", "e")]) == 0
    # 4/5, 3/4, 2/3, 1/2 and no brevity penalty: (4/5 · 3/4 · 2/3 · 1/2)^¼ = 0.2^¼.
    assert probing.bleu_of([("a", "b", "c", "d", "x")], [("a", "b", "c", "d", "e")]) == pytest.approx(0.2**0.25)
    # All that is there is right, but it is one word short: exp(1 - 5/4).
    brief = probing.bleu_of([("a", "b", "c", "d")], [("a", "b", "c", "d", "e")])
    assert brief == pytest.approx(2.718281828 ** (1 - 5 / 4))


def test_other_networks_are_refused(runtime, monkeypatch):
    with pytest.raises(UserError, match="a transformer on translation"):
        probe(nn.Linear(2, 2), runtime, monkeypatch)
