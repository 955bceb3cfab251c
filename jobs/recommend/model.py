"""SASRec and BERT4Rec on one small transformer encoder, with an inference path that computes the last position only.

SASRec: Kang & McAuley 2018, causal, trained on the next item. BERT4Rec: Sun et al. 2019, bidirectional, trained on
masked items; it predicts the next one at a mask put behind the history. Both score with the item embeddings (tied).

Item indexes are 0..items-1; `pad` and `mask` are the two rows behind them. Rows are padded on the right, so that a
causal model needs no padding mask and a batch can be cut to its longest row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.training.device import autocast

ARCHITECTURES = ("sasrec", "bert4rec")


@dataclass(frozen=True)
class Shape:
    """All that is needed to build the network again."""

    architecture: str
    items: int
    dim: int = 64
    blocks: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"unknown model {self.architecture!r}: use {' or '.join(ARCHITECTURES)}")

    @property
    def pad(self) -> int:
        return self.items

    @property
    def mask(self) -> int:
        return self.items + 1

    @property
    def causal(self) -> bool:
        return self.architecture == "sasrec"

    def __str__(self) -> str:
        """Architecture and sizes: all that the memory of a row depends on."""
        return f"{self.architecture}-{self.items}x{self.dim}x{self.length}x{self.blocks}x{self.heads}"

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Dropout(nn.Dropout):
    """torch's, with masks drawn by the byte on a CPU, in a fifth of the time: one by one they took a tenth of a step.

    The probability is rounded to the next 256th.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See torch."""
        dropped = round(self.p * 256)
        if not self.training or not dropped or x.device.type != "cpu":
            return super().forward(x)
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * kept * (256 / (256 - dropped))


class Block(nn.Module):
    """Attention and feed-forward, normalised before each."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.causal = shape.heads, shape.causal
        self.before_attention = nn.LayerNorm(shape.dim)
        self.query = nn.Linear(shape.dim, shape.dim)
        self.key_value = nn.Linear(shape.dim, 2 * shape.dim)
        self.out = nn.Linear(shape.dim, shape.dim)
        self.before_feed = nn.LayerNorm(shape.dim)
        self.feed = nn.Sequential(nn.Linear(shape.dim, shape.dim), nn.GELU(), nn.Linear(shape.dim, shape.dim))
        self.dropout = Dropout(shape.dropout)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """x (B, L, D); keys (B, 1, 1, L), true where attendable, or None when only the order decides."""
        batch, length, dim = x.shape
        y = self.before_attention(x)
        k, v = self._split(self.key_value(y), 2)  # (B, H, L, D/H) each
        (q,) = self._split(self.query(y), 1)
        # no dropout on the weights: drawing its masks took a fifth of an epoch
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys, is_causal=self.causal)
        return self._feed(x, mixed.transpose(1, 2).reshape(batch, length, dim))

    def at_last(self, x: Tensor, last: Tensor) -> Tensor:
        """The same at each row's last position only, (B, D).

        With one query, keys and values need not be computed: q.(K y) = (K'q).y, and the mean of V y is V of the mean.
        The keys' bias shifts all weights of a row alike and falls out of the softmax.
        """
        batch, length, dim = x.shape
        rows = torch.arange(batch, device=x.device)
        y = self.before_attention(x)
        x = x[rows, last]  # (B, D)
        to_key, to_value = self.key_value.weight.view(2, self.heads, -1, dim)  # (H, D/H, D) each
        q = self.query(y[rows, last]).view(batch, self.heads, -1)  # (B, H, D/H)
        weights = torch.einsum("bhk,hkd->bhd", q, to_key) @ y.transpose(1, 2) / math.sqrt(q.shape[2])  # (B, H, L)
        later = torch.arange(length, device=x.device) > last[:, None]
        weights = weights.masked_fill(later[:, None], -torch.inf).softmax(dim=2)
        mixed = torch.einsum("bhd,hkd->bhk", weights @ y, to_value).reshape(batch, dim)
        return self._feed(x, mixed + self.key_value.bias[dim:])

    def _feed(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.feed(self.before_feed(x)))

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        batch, length, _ = x.shape
        return tuple(part.view(batch, length, self.heads, -1).transpose(1, 2) for part in x.chunk(parts, dim=-1))


class Recommender(nn.Module):
    """Item indexes in, scores of all items out."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.item = nn.Embedding(shape.items + 2, shape.dim, padding_idx=shape.pad)
        self.place = nn.Embedding(shape.length, shape.dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.dim)
        self.bias = nn.Parameter(torch.zeros(shape.items))
        self.dropout = Dropout(shape.dropout)
        nn.init.normal_(self.item.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        with torch.no_grad():
            self.item.weight[shape.pad].zero_()

    def encode(self, sequence: Tensor, last: Tensor | None = None) -> Tensor:
        """(B, L) indexes to (B, L, D), or with `last` (B,), the index of each row's last position, to (B, D)."""
        keys = None if self.shape.causal else (sequence != self.shape.pad)[:, None, None, :]
        x = self.item(sequence) + self.place.weight[: sequence.shape[1]]  # (B, L, D)
        x = self.dropout(x)
        for block in self.blocks if last is None else self.blocks[:-1]:
            x = block(x, keys)
        return self.norm(x if last is None else self.blocks[-1].at_last(x, last))

    def score(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., items)."""
        return F.linear(hidden, self.item.weight[: self.shape.items], self.bias)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, L) to (B, L, items): every position."""
        return self.score(self.encode(sequence))

    @property
    def items(self) -> int:
        return self.shape.items

    @property
    def device(self) -> torch.device:
        return self.item.weight.device

    @property
    def name(self) -> str:
        return str(self.shape)

    @torch.inference_mode()
    def scores(self, histories: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        """See jobs.recommend.ranker.Ranker."""
        self.eval()
        rows, last = pack(histories, self.shape)
        with autocast(self.device):
            scores = self.next_scores(rows.to(self.device), last.to(self.device))
        return scores if scores.dtype == torch.float64 else scores.float()

    def next_scores(self, sequence: Tensor, last: Tensor) -> Tensor:
        """(B, L), (B,) to (B, items): scores of what comes next; rows as `pack` makes them."""
        return self.score(self.encode(sequence, last))


def pack(histories: Sequence[np.ndarray[Any, Any]], shape: Shape) -> tuple[Tensor, Tensor]:
    """Histories, none empty, to rows padded on the right (B, L) and the index of each row's last position (B,)."""
    room = shape.length if shape.causal else shape.length - 1
    recent = [history[-room:] for history in histories]
    extra = 0 if shape.causal else 1
    lengths = np.array([len(history) + extra for history in recent])
    rows = np.full((len(recent), lengths.max()), shape.pad, dtype=np.int64)
    rows[np.arange(rows.shape[1]) < (lengths - extra)[:, None]] = np.concatenate(recent)
    if extra:
        rows[np.arange(len(recent)), lengths - 1] = shape.mask
    return torch.from_numpy(rows), torch.from_numpy(lengths - 1)
