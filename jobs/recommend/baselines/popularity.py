"""Popularity: everybody gets what most users met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from jobs.recommend.histories import Histories
from jobs.recommend.ranker import Array


class Popularity:
    """See jobs.recommend.ranker.Ranker. `counts` (items,) float32: how many users met it."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts

    @classmethod
    def fit(cls, train: Histories) -> Popularity:
        counts = np.bincount(train.flat, minlength=len(train.items))
        return cls(torch.from_numpy(counts.astype(np.float32)))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], items: int) -> Popularity:
        if tensors["counts"].shape != (items,):
            raise ValueError(f"counts of {len(tensors['counts'])} items, but the vocabulary has {items}: fit anew")
        return cls(tensors["counts"])

    def tensors(self) -> dict[str, Tensor]:
        return {"counts": self.counts}

    @property
    def name(self) -> str:
        return f"popularity-{self.items}"

    @property
    def items(self) -> int:
        return len(self.counts)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def scores(self, histories: Sequence[Array]) -> Tensor:
        return self.counts.repeat(len(histories), 1)  # a copy: callers write into it
