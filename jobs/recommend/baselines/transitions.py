"""Transitions: counts of which items follow an item within a few steps, the nearer the more.

A Markov chain of several lags (Rendle et al. 2010 factorise one of them; here the data are small enough to count), and
a fitting takes a fraction of a second. On MovieLens-100K it beats a plainly trained transformer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

from jobs.recommend.baselines.rows import ItemToItem, fading
from jobs.recommend.histories import Histories


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
        owner = np.repeat(np.arange(len(train)), train.lengths)
        items = len(train.items)
        counts = csr_matrix((items, items), dtype=np.float32)
        for distance in range(1, reach + 1):
            same = owner[distance:] == owner[:-distance]
            ends = (train.flat[:-distance][same], train.flat[distance:][same])
            values = np.full(len(ends[0]), fading(np.array(distance - 1), step_half_life), dtype=np.float32)
            counts = counts + coo_matrix((values, ends), shape=counts.shape).tocsr()
        met = np.maximum(np.bincount(train.flat, minlength=items), 1).astype(np.float64)
        counts = counts.tocsr()
        rows = np.repeat(met**-source, np.diff(counts.indptr))
        counts.data = (counts.data * rows * (met**-target)[counts.indices]).astype(np.float32)
        return cls(counts, half_life)

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
