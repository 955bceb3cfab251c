"""Transitions: counts of which items follow an item within a few steps, the nearer the more.

A Markov chain of several lags (Rendle et al. 2010 factorise one of them; here the data are small enough to count), and
a fitting takes a fraction of a second. On MovieLens-100K it beats a plainly trained transformer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix, vstack
from torch import Tensor

from jobs.recommend.baselines.rows import ItemToItem, fading
from jobs.recommend.histories import Histories

_KEPT = 2000  # of what follows an item, the strongest: a large catalogue's counts would not fit whole
_PAIRS = 2**23  # of an item and what follows it, in memory at once


class Transitions(ItemToItem):
    kind = "transitions"

    @classmethod
    def fit(
        cls,
        train: Histories,
        reach: int = 20,
        step_half_life: float = 5.0,
        source: float = 0.5,
        target: float = 0.3,
        half_life: float = 5.0,
    ) -> Transitions:
        """Counts, divided by powers of both items' popularity so that neither what all met decides.

        reach: steps that count; step_half_life: steps after which one counts half; source, target: the powers;
        half_life: items of the user's history after which one counts half in scoring.
        """
        popular = np.maximum(np.bincount(train.flat, minlength=len(train.items)), 1).astype(np.float64)
        rows = []
        for items, counts in _counted(train, reach, step_half_life):
            scale = np.repeat(popular[items] ** -source, np.diff(counts.indptr))
            counts.data = (counts.data * scale * (popular**-target)[counts.indices]).astype(np.float32)
            rows.append(_strongest(counts, _KEPT))
        return cls(vstack(rows, format="csr"), half_life)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], items: int) -> Transitions:
        if len(tensors["starts"]) != items + 1:
            raise ValueError(f"counts of {len(tensors['starts']) - 1} items, but the vocabulary has {items}: fit anew")
        parts = (tensors["values"].numpy(), tensors["targets"].numpy(), tensors["starts"].numpy())
        return cls(csr_matrix(parts, shape=(items, items)), float(tensors["half_life"]))

    def tensors(self) -> dict[str, Tensor]:
        """The rows of a sparse matrix: values and targets (pairs,), starts (items + 1,); and half_life ()."""
        return {
            "values": torch.from_numpy(self.weights.data),
            "targets": torch.from_numpy(self.weights.indices),
            "starts": torch.from_numpy(self.weights.indptr),
            "half_life": torch.tensor(self.half_life, dtype=torch.float64),
        }


def _counted(train: Histories, reach: int, half_life: float) -> Iterator[tuple[slice, csr_matrix]]:
    """What follows some items, (some, items), for all items in turn; so many that their pairs fit into memory."""
    order = np.argsort(train.flat, kind="stable")  # events by their item
    begins = np.searchsorted(train.flat[order], np.arange(len(train.items) + 1))
    owner = np.repeat(np.arange(len(train)), train.lengths)
    first = 0
    while first < len(train.items):
        last = int(np.searchsorted(begins, begins[first] + _PAIRS // reach, side="right")) - 1
        last = min(max(last, first + 1), len(train.items))
        events = order[begins[first] : begins[last]]
        sources, targets, values = [], [], []
        for step in range(1, reach + 1):
            there = events[events + step < len(owner)]
            there = there[owner[there] == owner[there + step]]
            sources.append(train.flat[there] - first)
            targets.append(train.flat[there + step])
            values.append(np.full(len(there), fading(np.array(step - 1), half_life), dtype=np.float32))
        ends = (np.concatenate(sources), np.concatenate(targets))
        shape = (last - first, len(train.items))
        yield slice(first, last), coo_matrix((np.concatenate(values), ends), shape=shape).tocsr()
        first = last


def _strongest(counts: csr_matrix, kept: int) -> csr_matrix:
    """Each row's largest `kept` values."""
    if not len(counts.data) or np.diff(counts.indptr).max() <= kept:
        return counts
    for row in np.flatnonzero(np.diff(counts.indptr) > kept):
        values = counts.data[counts.indptr[row] : counts.indptr[row + 1]]
        values[np.argpartition(-values, kept)[kept:]] = 0
    counts.eliminate_zeros()
    return counts
