"""Training examples: histories cut into windows at a fresh place each epoch, with targets for SASRec or BERT4Rec.

Every event is a target once an epoch and all positions of a window train in one pass, which is what makes an epoch
about a hundred times faster than a row for every prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.recommend.histories import Histories
from jobs.recommend.model import Shape
from jobs.training import task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch(task.Batch):
    rows: Tensor  # (B, L) what the network reads
    place: Tensor  # (T,) flat positions, into B * L, that have a target
    target: Tensor  # (T,)
    known: Tensor  # (T, L) items of the window that cannot be the answer: they are left out of the softmax

    @property
    def targets(self) -> int:
        return len(self.target)

    @property
    def tokens(self) -> int:
        return self.rows.numel()


@dataclass(frozen=True)
class Windows:
    """One epoch's windows; see jobs.training.task.Examples."""

    shape: Shape
    table: Tensor  # (N, L) item indexes padded on the right; one more column where the model is causal
    hidden: Tensor  # (N, L) bool: what BERT4Rec must guess
    lengths: Array  # (N,) positions that the network reads

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.hidden.nbytes

    def to(self, device: torch.device) -> Windows:
        return Windows(self.shape, self.table.to(device), self.hidden.to(device), self.lengths)

    def batch(self, rows: Array) -> Batch:
        width = int(self.lengths[rows].max()) + (1 if self.shape.causal else 0)
        chosen = torch.from_numpy(np.ascontiguousarray(rows)).to(self.table.device)
        table = self.table[chosen, :width]
        return self._next_items(table) if self.shape.causal else self._masked_items(table, self.hidden[chosen, :width])

    def _next_items(self, table: Tensor) -> Batch:
        reads, answers = table[:, :-1], table[:, 1:]
        row, column = torch.nonzero(answers != self.shape.pad, as_tuple=True)
        # what the network has read up to its place; later columns repeat the place itself
        upto = torch.minimum(torch.arange(reads.shape[1], device=table.device), column[:, None])
        return _batch(reads, row, column, answers[row, column], reads[row[:, None], upto])

    def _masked_items(self, table: Tensor, hidden: Tensor) -> Batch:
        row, column = torch.nonzero(hidden, as_tuple=True)
        known = torch.where(hidden, self.shape.pad, table)[row]
        return _batch(torch.where(hidden, self.shape.mask, table), row, column, table[row, column], known)


def epoch(histories: Histories, shape: Shape, random: np.random.Generator, masked: float = 0.3) -> Windows:
    """The windows of one epoch; `masked` is the share of BERT4Rec's masked items."""
    extra = 1 if shape.causal else 0
    table = windows(histories, shape.length + extra, random, shape.pad)
    table = table[table[:, 1] != shape.pad] if len(table) else table  # one item alone: nothing to predict from
    real = table != shape.pad
    lengths = real.sum(axis=1) - extra
    hidden = np.zeros((0, 0), dtype=bool) if shape.causal else _hidden(real, random, masked)
    return Windows(shape, torch.from_numpy(table), torch.from_numpy(hidden), lengths)


def windows(histories: Histories, length: int, random: np.random.Generator, pad: int) -> Array:
    """(windows, length) of item indexes padded on the right; each history's first window is cut short at random."""
    lengths = histories.lengths
    shift = random.integers(0, length, len(histories))  # places left empty before the first window
    owner = np.repeat(np.arange(len(histories)), lengths)
    step = np.arange(len(histories.flat)) - histories.starts[:-1][owner] + shift[owner]
    number = step // length
    column = step % length - np.where(number == 0, shift[owner], 0)
    begins = np.ones(len(step), dtype=bool)
    begins[1:] = (owner[1:] != owner[:-1]) | (number[1:] != number[:-1])
    row = np.cumsum(begins) - 1
    table = np.full((row[-1] + 1 if len(row) else 0, length), pad, dtype=np.int64)
    table[row, column] = histories.flat
    return table


def _hidden(real: Array, random: np.random.Generator, masked: float) -> Array:
    """What is masked of each window, never nothing."""
    hidden = (random.random(real.shape) < masked) & real
    ends = real.sum(axis=1) - 1
    # some rows look as they do at inference
    only_last = (random.random(len(real)) < 0.1) | ~hidden.any(axis=1)
    hidden[only_last] = False
    hidden[only_last, ends[only_last]] = True
    return hidden


def _batch(reads: Tensor, row: Tensor, column: Tensor, target: Tensor, known: Tensor) -> Batch:
    return Batch(reads.contiguous(), row * reads.shape[1] + column, target, known)
