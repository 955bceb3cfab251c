"""Ranking metrics of one held-out item a user: hit@k, ndcg@k and mrr from its rank.

Full ranking: against all items that the user has not seen. Sampled: against 100 items drawn uniformly from those;
sampled figures are far higher and not comparable (Krichene & Rendle 2020), so their names say `sampled100`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

Array = np.ndarray[Any, Any]
CUTS = (5, 10)


def ranks(scores: Array, seen: csr_matrix, targets: Array) -> Array:
    """Rank, from 1, of each row's target among unseen items; ties count half, so a constant score is worth chance.

    scores (users, items); seen the same shape, non-zero where the user knows the item; targets (users,).
    """
    target = scores[np.arange(len(targets)), targets][:, None]
    open_ = seen.toarray() == 0
    open_[np.arange(len(targets)), targets] = False
    above = ((scores > target) & open_).sum(axis=1)
    equal = ((scores == target) & open_).sum(axis=1)
    return np.asarray(1 + above + equal / 2)


def sampled_ranks(
    scores: Array, seen: csr_matrix, targets: Array, random: np.random.Generator, negatives: int = 100
) -> Array:
    """The same against `negatives` unseen items drawn uniformly without replacement."""
    open_ = seen.toarray() == 0
    open_[np.arange(len(targets)), targets] = False
    result = np.empty(len(targets))
    for row, target in enumerate(targets):
        candidates = np.flatnonzero(open_[row])
        drawn = random.choice(candidates, min(negatives, len(candidates)), replace=False)
        others, own = scores[row, drawn], scores[row, target]
        result[row] = 1 + (others > own).sum() + (others == own).sum() / 2
    return result


def summary(ranked: Array, suffix: str = "") -> dict[str, float]:
    """hit@5, hit@10, ndcg@5, ndcg@10 and mrr, averaged over users."""
    values: dict[str, float] = {}
    for cut in CUTS:
        within = ranked <= cut
        values[f"hit@{cut}{suffix}"] = float(within.mean())
        values[f"ndcg@{cut}{suffix}"] = float((within / np.log2(ranked + 1)).mean())
    values[f"mrr{suffix}"] = float((1 / ranked).mean())
    return values
