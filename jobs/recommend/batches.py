"""Training rows: histories cut into windows at a fresh place each epoch, with targets for SASRec or BERT4Rec.

Every event is a target once an epoch and all positions of a window train in one pass, which is what makes an epoch
about a hundred times faster than a row for every prefix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.recommend.histories import Histories
from jobs.recommend.model import Shape

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    rows: Tensor  # (B, L) what the network reads
    place: Tensor  # (T,) flat positions, into B * L, that have a target
    target: Tensor  # (T,)
    known: Tensor  # (T, L) items of the window that cannot be the answer: they are left out of the softmax

    def part(self, rows: range) -> Batch:
        """Some consecutive rows, with their targets."""
        width = self.rows.shape[1]
        begin, end = torch.searchsorted(self.place, torch.tensor([rows.start * width, rows.stop * width])).tolist()
        place = self.place[begin:end] - rows.start * width
        return Batch(self.rows[rows.start : rows.stop], place, self.target[begin:end], self.known[begin:end])


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


def epoch(
    histories: Histories, shape: Shape, batch: int, random: np.random.Generator, masked: float = 0.3
) -> Iterator[Batch]:
    """The batches of one epoch in random order; `masked` is the share of BERT4Rec's masked items."""
    make = _next_items if shape.causal else _masked_items
    rows = windows(histories, shape.length + 1 if shape.causal else shape.length, random, shape.pad)
    rows = rows[rows[:, 1] != shape.pad]  # a window of one item has nothing to predict from
    rows = rows[random.permutation(len(rows))]
    for begin in range(0, len(rows), batch):
        part = rows[begin : begin + batch]
        part = part[:, : (part != shape.pad).sum(axis=1).max()]
        made = make(part, shape, random, masked)
        if len(made.target):
            yield made


def steps(histories: Histories, shape: Shape, batch: int) -> int:
    """About how many batches an epoch has: windows are cut at random places."""
    full = histories.lengths / (shape.length + (1 if shape.causal else 0)) + 0.96
    return max(1, math.ceil(float(full.sum()) / batch))


def _next_items(rows: Array, shape: Shape, random: np.random.Generator, masked: float) -> Batch:
    reads, answers = rows[:, :-1], rows[:, 1:]
    row, column = np.nonzero(answers != shape.pad)
    # what the network has read up to its place; later columns repeat the place itself
    known = reads[row[:, None], np.minimum(np.arange(reads.shape[1]), column[:, None])]
    return _batch(reads, row, column, answers[row, column], known)


def _masked_items(rows: Array, shape: Shape, random: np.random.Generator, masked: float) -> Batch:
    real = rows != shape.pad
    hidden = (random.random(rows.shape) < masked) & real
    ends = real.sum(axis=1) - 1
    only_last = random.random(len(rows)) < 0.1  # some rows look as they do at inference
    hidden[only_last] = False
    hidden[only_last, ends[only_last]] = True
    row, column = np.nonzero(hidden)
    known = np.where(hidden, shape.pad, rows)[row]
    return _batch(np.where(hidden, shape.mask, rows), row, column, rows[row, column], known)


def _batch(reads: Array, row: Array, column: Array, target: Array, known: Array) -> Batch:
    place = row * reads.shape[1] + column
    return Batch(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (reads, place, target, known)))
