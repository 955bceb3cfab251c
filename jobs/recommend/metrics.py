"""Ranking metrics of one held-out item a user: hit@k, ndcg@k and mrr from its rank.

Sampled figures, against 100 negatives, are far higher than those of a full ranking and not comparable with them
(Krichene & Rendle 2020, On Sampled Metrics for Item Recommendation): names of protocols keep them apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CUTS = (5, 10)
_TRIES = 3  # draws for each negative that is wanted


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

    seen (users, items) bool. Uniform, or one after the other in proportion to `popularity` (items,).
    """
    closed = seen.copy()
    closed[np.arange(len(targets)), targets] = True
    weights = np.ones(seen.shape[1]) if popularity is None else popularity.astype(float)
    drawn = _tried(closed, weights, random, negatives)
    short = np.flatnonzero(drawn[:, -1] < 0)
    row, column = np.nonzero(drawn[short] >= 0)
    rest = closed[short]
    rest[row, drawn[short[row], column]] = True
    keyed = _keyed(rest, weights, random, negatives)
    begin = (drawn[short] >= 0).sum(axis=1)[:, None]
    places = np.arange(negatives)
    after = np.take_along_axis(keyed, np.maximum(places - begin, 0), axis=1)
    drawn[short] = np.where(places < begin, drawn[short], after)
    return drawn


def _tried(closed: Array, weights: Array, random: np.random.Generator, negatives: int) -> Array:
    """Draws with replacement, of which closed items and repeats are dropped; -1 behind those that are left."""
    cumulated = np.cumsum(weights)
    tries = random.random((len(closed), _TRIES * negatives)) * cumulated[-1]
    tried = np.minimum(np.searchsorted(cumulated, tries, side="right"), len(weights) - 1)
    order = np.argsort(tried, axis=1, kind="stable")
    ordered = np.take_along_axis(tried, order, axis=1)
    again = np.zeros(tried.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    good = ~again & ~np.take_along_axis(closed, tried, axis=1)
    place = np.cumsum(good, axis=1)
    drawn = np.full((len(closed), negatives), -1, dtype=np.int64)
    row, column = np.nonzero(good & (place <= negatives))
    drawn[row, place[row, column] - 1] = tried[row, column]
    return drawn


def _keyed(closed: Array, weights: Array, random: np.random.Generator, negatives: int) -> Array:
    """Such draws where few tries would find an open item, by a key for each: Gumbel-top-k (Kool et al. 2019)."""
    with np.errstate(divide="ignore"):
        keys: Array = np.asarray(random.gumbel(size=closed.shape)) + np.log(weights)
    keys[closed] = -np.inf
    drawn = np.argsort(-keys, axis=1)[:, :negatives]
    found = np.where(np.isfinite(np.take_along_axis(keys, drawn, axis=1)), drawn, -1)
    return np.pad(found, ((0, 0), (0, negatives - found.shape[1])), constant_values=-1)


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
