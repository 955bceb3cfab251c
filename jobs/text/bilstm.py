"""A student that reads in both directions: embedding, one bidirectional LSTM, maximum over time, one linear layer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

_NOTHING = -1e4  # below whatever an LSTM gives, which is in (-1, 1)


class BiLSTM(nn.Module):
    """The student of Tang et al. 2019 (arXiv 1903.12136, section 3.1), with the maximum over time in place of the end.

    The two directions are two LSTMs, the second over each row turned around up to its own length. So padding stands
    behind what is read in both and changes nothing, without packing, with which a training takes twice the time.
    """

    def __init__(
        self, vocabulary: int, classes: int, width: int, hidden: int, dropout: float = 0.3, word_dropout: float = 0.1
    ) -> None:
        """`width` of the embedding, `hidden` units a direction; `word_dropout`: share of the tokens left blank."""
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.ahead = nn.LSTM(width, hidden, batch_first=True)
        self.back = nn.LSTM(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, classes)
        self.word_dropout = word_dropout

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor | None = None) -> Tensor:
        """(B, C) logits of (B, L) ids."""
        embedded = self.dropout(kept(self.embedding(ids), self.word_dropout, self.training))  # (B, L, D)
        place = torch.arange(ids.shape[1], device=ids.device)[None]
        last = mask.sum(dim=1, keepdim=True) - 1
        turned = torch.where(place <= last, last - place, place)[:, :, None]  # (B, L, 1), its own inverse
        ahead, _ = self.ahead(embedded)  # (B, L, H)
        back, _ = self.back(embedded.gather(1, turned.expand(-1, -1, embedded.shape[2])))
        back = back.gather(1, turned.expand(-1, -1, back.shape[2]))
        both = torch.cat([ahead, back], dim=2).masked_fill(mask[:, :, None] == 0, _NOTHING)
        return cast(Tensor, self.head(self.dropout(both.amax(dim=1))))


def kept(vectors: Tensor, share: float, training: bool) -> Tensor:
    """(B, L, D) with this share of the L positions zero, in training."""
    if not training or not share:
        return vectors
    alive = torch.rand(vectors.shape[:2], device=vectors.device) >= share
    return vectors * (alive / (1 - share))[:, :, None].to(vectors.dtype)
