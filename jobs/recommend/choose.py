"""From scores of all items to a short list by a policy: filters, then the greedy choice from the best that pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from broker.context import Context
from broker.errors import JobError
from db import catalogue
from jobs.recommend.opened import Shelf
from jobs.recommend.params import Policy
from jobs.recommend.policy.calibration import mix, spread_over
from jobs.recommend.policy.filters import Filter, UnknownLabel, check_labels
from jobs.recommend.policy.novelty import self_information
from jobs.recommend.policy.rerank import POOL, Pool, Weights, rerank

Array = np.ndarray[Any, Any]
_DEEP = 3  # candidates for each place of a long list


def choose(
    ctx: Context, shelf: Shelf, scores: Array, policy: Policy, top_k: int, *, without: Array, like: Sequence[int]
) -> Array:
    """Item indexes, best first: min(top_k, all that pass).

    scores (items,); without: item indexes that are not listed; like: the items whose mix of genres calibration aims at.
    Raises JobError for a genre or tag that there is not, and for novelty where nobody has counted what is popular.
    """
    try:
        check_labels(policy, shelf.genres, shelf.tags)
    except UnknownLabel as error:
        raise JobError(str(error)) from None
    weights = Weights(policy.diversity, policy.novelty, policy.calibration)
    pool = _pass(shelf, scores, Filter(policy), max(POOL, _DEEP * top_k) if weights.any else top_k, without)
    if not weights.any or not len(pool):
        return pool
    wanted = spread_over([shelf.facts[item].genres for item in like], shelf.genres) if policy.calibration else None
    given = Pool(
        relevance=scores[pool],
        vectors=shelf.vectors[pool] if policy.diversity else None,
        information=_information(ctx, [shelf.ids[item] for item in pool], policy) if policy.novelty else None,
        mass=None if wanted is None else spread_over([shelf.facts[item].genres for item in pool], shelf.genres),
        wanted=None if wanted is None else mix(wanted),
    )
    return pool[rerank(given, weights, top_k)]


def _pass(shelf: Shelf, scores: Array, allowed: Filter, size: int, without: Array) -> Array:
    """The best `size` items that are allowed; equal scores in the order of the items. Looks no further than it must."""
    barred = set(without.tolist())
    chosen: list[int] = []
    for item in descending(scores, 4 * (size + len(barred))):
        if item not in barred and allowed(shelf.facts[item]):
            chosen.append(item)
            if len(chosen) == size:
                break
    return np.array(chosen, dtype=np.int64)


def descending(scores: Array, head: int) -> Iterator[int]:
    """All items, the best first; what is behind the head is sorted only if somebody gets there."""
    parts = [np.arange(len(scores))]
    if head < len(scores):
        least = np.partition(scores, -head)[-head]
        parts = [np.flatnonzero(scores >= least), np.flatnonzero(scores < least)]
    for part in parts:
        yield from part[np.argsort(-scores[part], kind="stable")].tolist()


def _information(ctx: Context, ids: Sequence[str], policy: Policy) -> Array:
    with ctx.session() as session:
        found = catalogue.items(session, ids)
    popularity = np.array([found[item].popularity if item in found else 0.0 for item in ids])
    if not popularity.any():
        raise JobError(
            f"novelty={policy.novelty:g}: how popular items are is not known yet: import the data again, or wait for "
            "the weekly refresh"
        )
    return self_information(popularity)
