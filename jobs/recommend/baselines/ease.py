"""EASE^R (Steck 2019, Embarrassingly Shallow Autoencoders): a linear model from items to items, in closed form.

RecentEase is the same on histories whose older items count less, in fitting and in scoring.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.linalg import lapack
from scipy.sparse import csr_matrix
from torch import Tensor

from jobs.recommend.baselines.rows import ItemToItem, weighted
from jobs.recommend.histories import Histories

MOST_ITEMS = 20_000  # whose matrix is 3.2 GB while it is inverted


class TooManyItems(ValueError):
    """A matrix of items x items would not fit."""


class Ease(ItemToItem):
    kind = "ease"

    @classmethod
    def fit(cls, train: Histories, ridge: float = 100.0) -> Ease:
        return cls(_solved(train.matrix(), ridge))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], items: int) -> Ease:
        if "half_life" in tensors:
            raise ValueError("these are weights of recent-ease, which count newer items more: fit anew")
        return cls(_weights(tensors, items))

    def tensors(self) -> dict[str, Tensor]:
        """weights (items, items) float32."""
        return {"weights": torch.from_numpy(self.weights)}


class RecentEase(ItemToItem):
    kind = "recent-ease"

    @classmethod
    def fit(
        cls, train: Histories, ridge: float = 120.0, half_life: float = 40.0, scored_half_life: float = 12.0
    ) -> RecentEase:
        """`half_life`: items after which one counts half in fitting; `scored_half_life`: the same in scoring."""
        return cls(_solved(weighted(train, half_life), ridge), scored_half_life)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], items: int) -> RecentEase:
        return cls(_weights(tensors, items), float(tensors["half_life"]))

    def tensors(self) -> dict[str, Tensor]:
        """weights (items, items) and half_life (): float32 and float64."""
        half_life = torch.tensor(self.half_life, dtype=torch.float64)
        return {"weights": torch.from_numpy(self.weights), "half_life": half_life}


def _weights(tensors: Mapping[str, Tensor], items: int) -> np.ndarray[Any, Any]:
    if tensors["weights"].shape != (items, items):
        raise ValueError(f"weights of {len(tensors['weights'])} items, but the vocabulary has {items}: fit anew")
    return tensors["weights"].numpy()


def _solved(met: csr_matrix, ridge: float) -> np.ndarray[Any, Any]:
    """(items, items) float32 with a zero diagonal: section 3.1. Raises TooManyItems."""
    if met.shape[1] > MOST_ITEMS:
        raise TooManyItems(f"{met.shape[1]:,} items are more than {MOST_ITEMS:,}: its matrix of items would not fit")
    met = met.astype(np.float64)
    gram = np.asfortranarray((met.T @ met).todense())
    gram[np.diag_indices_from(gram)] += ridge
    # in place, by Cholesky: half the time and a third of the memory of numpy.linalg.inv
    factor, failed = lapack.dpotrf(gram, lower=0, overwrite_a=1, clean=0)
    upper, failed_too = lapack.dpotri(factor, lower=0, overwrite_c=1)
    if failed or failed_too:
        raise ValueError(f"ridge={ridge:g} is too small for these histories: give a larger one")
    inverse = np.triu(upper) + np.triu(upper, 1).T
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights.astype(np.float32)
