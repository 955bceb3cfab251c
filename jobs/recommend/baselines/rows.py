"""Histories as rows of a sparse matrix, and the base of rankers that multiply such rows with item-to-item weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor

from jobs.recommend.histories import Histories
from jobs.recommend.ranker import Array

_DENSE_ITEMS = 5_000  # 100 MB


def ages(starts: Array) -> Array:
    """(events,) how many later items its history has: 0 for the newest. `starts` as in Histories."""
    lengths = np.diff(starts)
    return np.repeat(starts[1:] - 1, lengths) - np.arange(starts[-1])


def weighted(histories: Histories, half_life: float) -> csr_matrix:
    """Users by items: 1 for the newest item, half of it `half_life` items earlier, and so on."""
    values = fading(ages(histories.starts), half_life)
    return csr_matrix((values, histories.flat, histories.starts), shape=(len(histories), len(histories.items)))


def fading(age: Array, half_life: float) -> Array:
    return np.asarray(np.exp2(-age / half_life), dtype=np.float32)


class ItemToItem:
    """See jobs.recommend.ranker.Ranker. A row of a history times `weights`, from item (row) to item (column).

    weights (items, items), dense or sparse. half_life: items after which one counts half; None, all count alike.
    """

    kind: str  # name in tables

    def __init__(self, weights: Any, half_life: float | None = None) -> None:
        self.weights, self.half_life = weights, half_life

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.items}"

    @property
    def items(self) -> int:
        return int(self.weights.shape[0])

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def scores(self, histories: Sequence[Array]) -> Tensor:
        # both go row by row, so no user's scores depend on who else is in the batch
        if (dense := self._dense) is None:
            return torch.from_numpy(np.ascontiguousarray(self.sparse(histories).toarray()))
        starts, met, values = self._weighted(histories)
        bags = torch.from_numpy(starts[:-1])
        return F.embedding_bag(
            torch.from_numpy(met), dense, bags, mode="sum", per_sample_weights=torch.from_numpy(values)
        )

    def sparse(self, histories: Sequence[Array]) -> csr_matrix:
        """The same scores (B, items), without the zeros; of sparse weights."""
        starts, met, values = self._weighted(histories)
        rows: csr_matrix = csr_matrix((values, met, starts), shape=(len(histories), self.items)) @ self.weights
        return rows

    def _weighted(self, histories: Sequence[Array]) -> tuple[Array, Array, Array]:
        """Where each history begins (B + 1,), and of all of them items and weights (events,)."""
        if self.half_life is not None:  # what is older weighs less than a thousandth of the newest
            reach = math.ceil(10 * self.half_life)
            histories = [history[-reach:] for history in histories]
        starts = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
        met = np.concatenate(histories)
        if self.half_life is None:
            return starts, met, np.ones(starts[-1], dtype=np.float32)
        return starts, met, fading(ages(starts), self.half_life)

    @cached_property
    def _dense(self) -> Tensor | None:
        """The weights as a table of rows, which are added 3 to 9 times as fast as sparse ones; None where too large."""
        if isinstance(self.weights, np.ndarray):
            return torch.from_numpy(self.weights)
        return torch.from_numpy(self.weights.toarray()) if self.items <= _DENSE_ITEMS else None
