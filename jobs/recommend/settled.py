"""Lists from float32 that are those of float64: where scores are too close for float32 to order, float64 decides.

The rounding of a batched float32 forward depends on the batch, so two items that nearly tie can change places with
who else is in it. How far a score is off at most is measured (`error`) and doubled; a user who has two neighbours in
the list closer than twice that is computed again in float64. On MovieLens-100K that is one user in sixteen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from jobs.recommend.precompute import Exhaustive, select, unseen
from jobs.recommend.ranker import Ranker

Array = np.ndarray[Any, Any]
_SAFETY = 2.0  # times the largest error measured, which is of some 100,000 scores


class Settled:
    """See jobs.recommend.precompute.Search."""

    def __init__(self, fast: Ranker, exact: Ranker, error: float) -> None:
        self._fast, self._exact = fast, Exhaustive(exact)
        self._apart = 2 * _SAFETY * error  # both neighbours may be off
        self.most = self._exact.most

    @torch.inference_mode()
    def best(self, histories: Sequence[Array], k: int) -> tuple[Array, Array]:
        """See Search. Scores are float32's where these settle the order."""
        items, values = select(unseen(self._fast.scores(histories), histories), k + 1)  # one more: who comes next
        values = values.astype(np.float64)
        with np.errstate(invalid="ignore"):  # -inf - -inf, behind the last unseen item
            close = (values[:, :-1] - values[:, 1:] <= self._apart).any(axis=1)
        items, values = items[:, :k], values[:, :k]
        if rows := np.flatnonzero(close).tolist():
            items[rows], values[rows] = self._exact.best([histories[row] for row in rows], k)
        return items, values


@torch.inference_mode()
def error(fast: Ranker, exact: Ranker, histories: Sequence[Array]) -> float:
    """The largest difference of a score."""
    return float((fast.scores(histories) - exact.scores(histories)).abs().max())
