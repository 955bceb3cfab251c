"""Ranking metrics of one held-out item a user: hit@k, ndcg@k and mrr from its rank.

Sampled figures, against 100 negatives, are far higher than those of a full ranking and not comparable with them
(Krichene & Rendle 2020, On Sampled Metrics for Item Recommendation): names of protocols keep them apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CUTS = (5, 10)


def ranks(scores: Array, targets: Array, closed: Array | None = None) -> Array:
    """Rank, from 1, of each row's target; ties count half, so a constant score is worth chance.

    scores (users, items); targets (users,); closed (users, items) bool, items that are left out of the ranking.
    """
    rows = np.arange(len(targets))
    target = scores[rows, targets][:, None]
    above, equal = scores > target, scores == target
    equal[rows, targets] = False
    if closed is not None:
        above &= ~closed
        equal &= ~closed
    return np.asarray(1 + above.sum(axis=1) + equal.sum(axis=1) / 2)


def sampled_ranks(scores: Array, targets: Array, drawn: Array) -> Array:
    """The same against the drawn items alone: drawn (users, negatives), -1 where a user has fewer."""
    rows = np.arange(len(targets))
    target = scores[rows, targets][:, None]
    others = np.take_along_axis(scores, np.maximum(drawn, 0), axis=1)
    there = drawn >= 0
    above, equal = (others > target) & there, (others == target) & there
    return np.asarray(1 + above.sum(axis=1) + equal.sum(axis=1) / 2)


def draw(
    seen: Array, targets: Array, random: np.random.Generator, popularity: Array | None = None, negatives: int = 100
) -> Array:
    """(users, negatives) unseen items other than the target, without replacement; -1 where there are no more.

    seen (users, items) bool. Uniform, or in proportion to `popularity` (items,), by the Gumbel-top-k trick (Kool et al.
    2019): the k greatest of log-weight + Gumbel noise are k draws without replacement.
    """
    keys: Array = np.asarray(random.gumbel(size=seen.shape))
    if popularity is not None:
        with np.errstate(divide="ignore"):
            keys += np.log(popularity)
    keys[seen] = -np.inf
    keys[np.arange(len(targets)), targets] = -np.inf
    negatives = min(negatives, keys.shape[1])
    drawn = np.argpartition(-keys, negatives - 1, axis=1)[:, :negatives]
    return np.where(np.isfinite(np.take_along_axis(keys, drawn, axis=1)), drawn, -1)


def gains(ranked: Array, cut: int = 10) -> Array:
    """Each user's ndcg@cut."""
    return np.asarray(np.where(ranked <= cut, 1 / np.log2(ranked + 1), 0.0))


def summary(ranked: Array) -> dict[str, float]:
    """hit@5, hit@10, ndcg@5, ndcg@10 and mrr, averaged over users."""
    values: dict[str, float] = {}
    for cut in CUTS:
        values[f"hit@{cut}"] = float((ranked <= cut).mean())
        values[f"ndcg@{cut}"] = float(gains(ranked, cut).mean())
    values["mrr"] = float((1 / ranked).mean())
    return values
