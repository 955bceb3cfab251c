"""Texts as tokens, made once: one flat tensor of ids, from which batches are cut and padded on any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from jobs.training.task import Batch

Array = np.ndarray[Any, Any]

_AT_ONCE = 4096  # texts: what the tokenizer says of each is far larger than its ids
_CHARACTERS = 64  # for each token: what lies behind is not looked at, or a text of a megabyte would take seconds


@dataclass(frozen=True)
class TextBatch(Batch):
    """Texts that go through the network together, padded on the right to the longest of them."""

    ids: Tensor  # (B, L) int64
    lengths: Tensor  # (B,) int64
    labels: Tensor  # (B,) int64
    features: Tensor | None = None  # (B, L, D) what the frozen lower layers give, where it is known

    @property
    def mask(self) -> Tensor:
        """(B, L) int64, 1 where there is a token."""
        return (torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]).long()

    @property
    def targets(self) -> int:
        return len(self.labels)

    @property
    def tokens(self) -> int:
        return self.ids.numel()


@dataclass(frozen=True)
class Tokens:
    """The examples of a split: ragged rows, one behind the other."""

    flat: Tensor  # (T,) int32, which half as many bytes carry to a device
    starts: Tensor  # (N,) int64, where each row begins in `flat`
    counts: Tensor  # (N,) int64
    labels: Tensor  # (N,) int64
    lengths: Array  # (N,) `counts` on the host: the width of a batch is known without asking the device
    pad: int
    cut: int = 0  # texts that were longer

    @property
    def nbytes(self) -> int:
        return self.flat.nbytes + self.starts.nbytes + self.counts.nbytes + self.labels.nbytes

    def to(self, device: torch.device) -> Tokens:
        moved = {name: getattr(self, name).to(device) for name in ("flat", "starts", "counts", "labels")}
        return replace(self, **moved)

    def batch(self, rows: Array) -> TextBatch:
        chosen = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)).to(self.flat.device)
        counts = self.counts[chosen]
        column = torch.arange(int(self.lengths[rows].max()), device=self.flat.device)
        place = (self.starts[chosen][:, None] + column).clamp_(max=len(self.flat) - 1)  # (B, L)
        ids = torch.where(column < counts[:, None], self.flat[place].long(), self.pad)
        return TextBatch(ids, counts, self.labels[chosen])


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], labels: Array, longest: int, prefix: str = ""
) -> Tokens:
    """Rows of at most `longest` tokens, those that mark begin and end included. `prefix`: comes before each text."""
    rows: list[Array] = []
    cut = 0
    for begin in range(0, len(texts), _AT_ONCE):
        part = [(prefix + text)[: longest * _CHARACTERS] for text in texts[begin : begin + _AT_ONCE]]
        done = tokenizer(part, truncation=True, max_length=longest, padding=False)
        rows += [np.array(ids or [tokenizer.pad_token_id], dtype=np.int32) for ids in done["input_ids"]]
        cut += sum(bool(each.overflowing) for each in done.encodings)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    return Tokens(
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(starts),
        torch.from_numpy(lengths),
        torch.from_numpy(np.asarray(labels, dtype=np.int64)),
        lengths,
        int(tokenizer.pad_token_id),
        cut,
    )
