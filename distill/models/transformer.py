"""Define an encoder-decoder Transformer for sentence pairs, with torch's layers and learned positions.

Each layer normalises its input first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64
    from torch import Tensor

_PAD = 0
# The shape of the data does not tell how many of the bytes occur.
_SOURCE_WORDS = 256
"""Number of source ids, which are bytes."""


class Transformer(nn.Module):
    """Compute logits of the next target token at each position by a small Transformer (Vaswani et al. 2017).

    Its feed-forward layers are twice as wide as the rest. Padding (id 0) stands at the end of a row.

    Args:
        num_classes: size of the target vocabulary.
        in_shape: (1, 2, positions): a row of source ids below 256 and a row of decoder input ids.
        width: width of embeddings and layers.
        layers: number of layers of encoder and decoder each.
        heads: number of attention heads.
        dropout: dropout of embeddings, attention and layers.

    Raises:
        ValueError: the data are not pairs of token sequences, or the heads do not divide the width.
    """

    def __init__(
        self,
        num_classes: int,
        in_shape: tuple[int, int, int],
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ):
        if tuple(in_shape[:2]) != (1, 2):
            raise ValueError(f"a transformer takes rows of source and target ids, [1, 2, t], got {list(in_shape)}")
        if min(width, layers, heads) < 1 or width % heads:
            raise ValueError(f"heads must divide the width, got {heads} heads, width {width} and {layers} layers")
        super().__init__()
        positions = in_shape[2]
        self.source_words = nn.Embedding(_SOURCE_WORDS, width)
        self.target_words = nn.Embedding(num_classes, width)
        self.source_positions = nn.Parameter(torch.empty(positions, width))
        self.target_positions = nn.Parameter(torch.empty(positions, width))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.body = nn.Transformer(
            width,
            heads,
            num_decoder_layers=layers,
            dim_feedforward=2 * width,
            dropout=dropout,
            # The default encoder warns that it cannot use nested tensors when norms come first.
            custom_encoder=nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False),
            batch_first=True,
            norm_first=True,
        )
        self.head = nn.Linear(width, num_classes)
        for table in (self.source_words.weight, self.target_words.weight):
            nn.init.normal_(table, std=1)
        for table in (self.source_positions, self.target_positions):
            nn.init.normal_(table, std=0.1)

    def encode(self, source: Int64[Tensor, "b t"]) -> tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]]:
        """Return the encoded source, and where it is padded."""
        padded = source == _PAD
        # Attention over nothing is 0/0, so the first position counts even where a row is empty.
        padded = torch.cat([torch.zeros_like(padded[:, :1]), padded[:, 1:]], dim=1)
        embedded = self.dropout(self.source_words(source) + self.source_positions[: source.shape[1]])
        return self.body.encoder(embedded, src_key_padding_mask=padded), padded

    def decode(
        self, memory: Float[Tensor, "b s d"], padded: Bool[Tensor, "b s"], prefix: Int64[Tensor, "b t"]
    ) -> Float[Tensor, "b t d"]:
        """Return the penultimate activations at each position of the decoder's input, given an encoded source."""
        length = prefix.shape[1]
        embedded = self.dropout(self.target_words(prefix) + self.target_positions[:length])
        # Padded decoder inputs need no mask of their own, since no earlier position sees a later one.
        later = torch.ones(length, length, dtype=torch.bool, device=prefix.device).triu(1)
        return self.body.decoder(
            embedded, memory, tgt_mask=later, memory_key_padding_mask=padded, tgt_is_causal=True
        )

    def forward(self, x: Float[Tensor, "b 1 2 t"]) -> Float[Tensor, "b t k"]:
        """Return the logits of the token that follows each position of the decoder's input."""
        tokens = x[:, 0].long()
        return self.head(self.decode(*self.encode(tokens[:, 0]), tokens[:, 1]))
