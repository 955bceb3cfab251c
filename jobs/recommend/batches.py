"""Training examples: histories cut into windows at a fresh place each epoch, with targets for SASRec or BERT4Rec.

Every event is a target once an epoch and all positions of a window train in one pass, which is what makes an epoch
about a hundred times faster than a row for every prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.recommend.histories import Histories
from jobs.recommend.model import Shape
from jobs.training import task

Array = np.ndarray[Any, Any]
LAST = 0.1  # of BERT4Rec's windows look as they do when it recommends: the last item alone is masked


@dataclass(frozen=True)
class Batch(task.Batch):
    rows: Tensor  # (B, L) what the network reads
    place: Tensor  # (T,) flat positions, into B * L, that have a target
    target: Tensor  # (T, n) the answer, then what comes with it or, with soft targets, later; the answer again: nothing
    weight: Tensor  # (T, n) of each, adding up to 1
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
    hidden: Tensor  # (N, L) bool: what BERT4Rec must guess, and what SASRec must do without (0 columns: nothing)
    lengths: Array  # (N,) positions that the network reads
    ahead: int = 1  # how many of the next items are targets
    fading: float = 1.0  # weight of each against the one before
    moments: Tensor | None = None  # (N, L) of each item: what shares one with a target is a target, too
    most: int = 1  # targets of a place

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.hidden.nbytes + (0 if self.moments is None else self.moments.nbytes)

    def to(self, device: torch.device) -> Windows:
        moments = None if self.moments is None else self.moments.to(device)
        return replace(self, table=self.table.to(device), hidden=self.hidden.to(device), moments=moments)

    def batch(self, rows: Array) -> Batch:
        width = int(self.lengths[rows].max()) + (1 if self.shape.causal else 0)
        chosen = torch.from_numpy(np.ascontiguousarray(rows)).to(self.table.device)
        table = self.table[chosen, :width]
        hidden = self.hidden[chosen, :width]
        if not self.shape.causal:
            return self._masked_items(table, hidden)
        return self._next_items(table, hidden, None if self.moments is None else self.moments[chosen, 1:width])

    def _next_items(self, table: Tensor, hidden: Tensor, moments: Tensor | None) -> Batch:
        reads, answers = table[:, :-1], table[:, 1:]
        row, column = torch.nonzero(answers != self.shape.pad, as_tuple=True)
        # what the network has read up to its place; later columns repeat the place itself
        upto = torch.minimum(torch.arange(reads.shape[1], device=table.device), column[:, None])
        known, target, weight = reads[row[:, None], upto], *self._soft(answers, moments, row, column)
        if hidden.shape[1]:
            reads = torch.where(hidden[:, :-1], self.shape.mask, reads)
        return _batch(reads, row, column, target, weight, known)

    def _soft(self, answers: Tensor, moments: Tensor | None, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """The items of the next `ahead` moments and their weights, (T, n) each: all those of one moment weigh alike.

        Where no moment has two items, these are the next `ahead` items; the answer is always the first.
        """
        if self.most == 1:
            return answers[row, column][:, None], torch.ones((len(row), 1), device=row.device)
        width = answers.shape[1]
        columns = column[:, None] + torch.arange(self.most, device=row.device)
        inside = columns.clamp(max=width - 1)
        target = answers[row[:, None], inside]
        at = columns if moments is None else moments[row[:, None], inside]
        later = at - at[:, :1]
        missing = (target == self.shape.pad) | (columns >= width) | (later >= self.ahead)
        weight = (self.fading**later).masked_fill(missing, 0.0)
        return torch.where(missing, target[:, :1], target), weight / weight.sum(dim=1, keepdim=True)

    def _masked_items(self, table: Tensor, hidden: Tensor) -> Batch:
        row, column = torch.nonzero(hidden, as_tuple=True)
        known = torch.where(hidden, self.shape.pad, table)[row]
        target = table[row, column][:, None]
        reads = torch.where(hidden, self.shape.mask, table)
        return _batch(reads, row, column, target, torch.ones_like(target, dtype=torch.float32), known)


def epoch(
    histories: Histories,
    shape: Shape,
    random: np.random.Generator,
    masked: float = 0.3,
    *,
    blank: float = 0.0,
    ahead: int = 1,
    fading: float = 1.0,
    ties: bool = False,
    only_last: bool = False,
) -> Windows:
    """The windows of one epoch.

    masked: share of BERT4Rec's masked items; only_last: it guesses the last item of each window alone, as when it
    recommends. For SASRec, blank: chance of a window to have `masked` of the items that it reads replaced by the
    mask; ahead, fading: how many of the next items are targets, and the weight of each against the one before; ties:
    what happened at one time is one target together, and counts as one item of those ahead.
    """
    extra = 1 if shape.causal else 0
    events = _cut(histories, shape.length + extra, random)
    events = events[events[:, 1] >= 0] if len(events) else events  # one item alone: nothing to predict from
    table = _filled(events, histories.flat, shape.pad)
    moments, most = None, ahead
    if ties and shape.causal and len(events):
        moments = torch.from_numpy(_filled(events, histories.moments, -1))
        most *= int(np.bincount(histories.moments).max())
    real = table != shape.pad
    lengths = real.sum(axis=1) - extra
    if not shape.causal:
        hidden = _hidden(real, random, masked, 1.0 if only_last else LAST)
    elif blank:
        hidden = (random.random(real.shape) < masked) & (random.random(len(real)) < blank)[:, None] & real
    else:
        hidden = np.zeros((len(real), 0), dtype=bool)
    rows, covered, most = torch.from_numpy(table), torch.from_numpy(hidden), min(most, shape.length)
    return Windows(shape, rows, covered, lengths, ahead, fading, moments, most)


def windows(histories: Histories, length: int, random: np.random.Generator, pad: int) -> Array:
    """(windows, length) of item indexes padded on the right; each history's first window is cut short at random."""
    return _filled(_cut(histories, length, random), histories.flat, pad)


def _cut(histories: Histories, length: int, random: np.random.Generator) -> Array:
    """(windows, length) of events, which are places in `flat`; -1 where a window has no more."""
    lengths = histories.lengths
    shift = random.integers(0, length, len(histories))  # places left empty before the first window
    owner = np.repeat(np.arange(len(histories)), lengths)
    step = np.arange(len(histories.flat)) - histories.starts[:-1][owner] + shift[owner]
    number = step // length
    column = step % length - np.where(number == 0, shift[owner], 0)
    begins = np.ones(len(step), dtype=bool)
    begins[1:] = (owner[1:] != owner[:-1]) | (number[1:] != number[:-1])
    row = np.cumsum(begins) - 1
    events = np.full((row[-1] + 1 if len(row) else 0, length), -1, dtype=np.int64)
    events[row, column] = np.arange(len(step))
    return events


def _filled(events: Array, values: Array, pad: int) -> Array:
    """The events' values, and `pad` where there is none."""
    return np.where(events < 0, pad, values[events])


def _hidden(real: Array, random: np.random.Generator, masked: float, last: float) -> Array:
    """What is masked of each window, never nothing; of the share `last`, its last item alone."""
    hidden = (random.random(real.shape) < masked) & real
    ends = real.sum(axis=1) - 1
    only_last = (random.random(len(real)) < last) | ~hidden.any(axis=1)
    hidden[only_last] = False
    hidden[only_last, ends[only_last]] = True
    return hidden


def _batch(reads: Tensor, row: Tensor, column: Tensor, target: Tensor, weight: Tensor, known: Tensor) -> Batch:
    return Batch(reads.contiguous(), row * reads.shape[1] + column, target, weight, known)
