"""Item-kNN: what is near the user's items, by the cosine of who met them (Sarwar et al. 2001)."""

from __future__ import annotations

import numpy as np

from jobs.recommend.baselines.rows import ItemToItem
from jobs.recommend.histories import Histories


class ItemKnn(ItemToItem):
    kind = "item-knn"

    @classmethod
    def fit(cls, train: Histories, neighbours: int = 100, shrink: float = 10.0) -> ItemKnn:
        """Cosines shrunk towards zero where few users met both; the nearest neighbours only."""
        met = train.matrix()
        both = np.asarray((met.T @ met).todense(), dtype=np.float32)
        norm = np.sqrt(np.diag(both))
        similar = both / (np.outer(norm, norm) + np.float32(shrink))
        np.fill_diagonal(similar, 0)
        if neighbours < len(similar):
            floor = -np.partition(-similar, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
            similar[similar < floor] = 0
        return cls(np.ascontiguousarray(similar.T))
