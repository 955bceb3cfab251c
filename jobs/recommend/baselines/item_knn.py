"""Item-kNN: what is near the user's items, by the cosine of who met them (Sarwar et al. 2001)."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, vstack

from jobs.recommend.baselines.rows import ItemToItem
from jobs.recommend.histories import Histories

_CELLS = 2**24  # of the matrix of items that are in memory at once


class ItemKnn(ItemToItem):
    kind = "item-knn"

    @classmethod
    def fit(cls, train: Histories, neighbours: int = 200, shrink: float = 50.0) -> ItemKnn:
        """Cosines shrunk towards zero where few users met both; each item's nearest neighbours only."""
        met = train.matrix()
        of_items = met.T.tocsr()
        norm = np.sqrt(np.bincount(train.flat, minlength=len(train.items))).astype(np.float32)
        step, rows = max(1, _CELLS // len(norm)), []
        for begin in range(0, len(norm), step):
            similar = (of_items[begin : begin + step] @ met).toarray()
            places = np.arange(len(similar))
            similar /= norm[begin : begin + step, None] * norm + np.float32(shrink)
            similar[places, begin + places] = 0
            if neighbours < len(norm):
                floor = -np.partition(-similar, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
                similar[similar < floor] = 0
            rows.append(csr_matrix(similar))
        return cls(vstack(rows).T.tocsr())  # from the item that was met to those whose neighbour it is
