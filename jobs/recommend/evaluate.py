"""Measuring a ranker on held-out items: validation while training and choosing, the test split once at the end.

Four protocols, each with its name in every result (the first is what is meant where none is named):

    full        rank among all items that the user has not met
    unfiltered  rank among all items, those met included
    u100        rank among 100 items that the user has not met, drawn uniformly
    p100        the same drawn in proportion to popularity
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from jobs.recommend import metrics
from jobs.recommend.histories import NONE, Histories, Split, from_sequences
from jobs.recommend.precompute import stable_topk
from jobs.recommend.ranker import Ranker
from jobs.training import interval
from jobs.training.memory import Batcher

Array = np.ndarray[Any, Any]
Scorer = Callable[[Histories], Array]  # (users, items) float
FULL, UNFILTERED, UNIFORM, POPULAR = PROTOCOLS = ("full", "unfiltered", "u100", "p100")
SAMPLED = (UNIFORM, POPULAR)
METRIC = "ndcg@10"  # of the full ranking: what is chosen and compared by
LIST = 10  # items a user whose coverage, novelty and popularity are told
SAME = "no difference seen"
LIST_FIGURES = ("coverage@10", "novelty@10", "popularity@10")
VALIDATED = 20_000  # users at most while training: more would take longer than the epochs between
_SCORES = 2**23  # in memory at once, over all users of a part


@dataclass(frozen=True)
class Measured:
    """A ranker's ranks of held-out items, one for each user that has one, under each protocol that was asked for."""

    users: Array  # (users,) which of the histories, to see that two measurements are of the same
    by_protocol: dict[str, Array]  # (users,) float, from 1
    lists: dict[str, float]  # what of top 10 lists does not depend on the held-out item; empty if not asked for

    @property
    def ranks(self) -> Array:
        return self.by_protocol[FULL]

    @property
    def gains(self) -> Array:
        """(users,) ndcg@10 of the full ranking."""
        return metrics.gains(self.ranks)

    def summary(self, protocol: str = FULL) -> dict[str, float]:
        """hit@5, hit@10, ndcg@5, ndcg@10 and mrr."""
        return metrics.summary(self.by_protocol[protocol])

    def interval(self) -> tuple[float, float] | None:
        """Of ndcg@10, full ranking: 95 %, bootstrap over users."""
        return interval.of_mean(self.gains.tolist())


@dataclass(frozen=True)
class Difference:
    """Of two means over the same users: positive where the first is better; low and high bound it at 95 %."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        return "better" if self.low > 0 else "worse" if self.high < 0 else SAME


def compare(one: Measured, other: Measured) -> Difference:
    """`one` less `other` in ndcg@10, full ranking, by paired bootstrap over users (jobs/training/interval.py).

    Raises ValueError when the two are not of the same users.
    """
    if not np.array_equal(one.users, other.users):
        raise ValueError(f"measured on {len(one.users)} and {len(other.users)} users, not the same: measure both anew")
    return difference(one.gains, other.gains)


def difference(one: Array, other: Array) -> Difference:
    """The same of any two values a user between 0 and 1, such as ndcg@10 averaged over seeds."""
    less = one - other
    return Difference(float(less.mean()), *(interval.of_mean(less.tolist()) or (-1.0, 1.0)))  # one user tells nothing


def scorer(ranker: Ranker, batch: int = 256, batcher: Callable[[str, torch.device], Batcher] = Batcher) -> Scorer:
    """A ranker as a scorer of histories."""
    sizes = batcher(f"{ranker.name} scores", ranker.device)

    def scores(histories: Histories) -> Array:
        def score(users: Sequence[int]) -> Array:
            return ranker.scores([histories[user] for user in users]).cpu().numpy()

        return np.concatenate(list(sizes.run(score, range(len(histories)), batch)))

    return scores


def measure(
    ranker: Ranker | Scorer,
    known: Histories,
    held: Array,
    protocols: Sequence[str] = (FULL,),
    lists: bool = False,
    seed: int = 0,
    batcher: Callable[[str, torch.device], Batcher] = Batcher,
    drawn: Mapping[str, Array] | None = None,
) -> Measured:
    """Ranks of `held` (users,), an item index or NONE, when `known` is known; a part of the users at a time.

    lists: also coverage, novelty and popularity of the top 10. `seed` draws the negatives, the same for every ranker;
    `drawn`: those of `negatives`, for who measures more than one.
    Raises ValueError when nothing is held out, or one who holds something out has no history.
    """
    users = np.flatnonzero(held != NONE)
    if not len(users):
        raise ValueError("no user has three items or more, so there is nothing to measure on: give more data")
    score = scorer(cast(Ranker, ranker), batcher=batcher) if hasattr(ranker, "scores") else ranker
    if drawn is None:
        drawn = negatives(known, held, seed, [name for name in SAMPLED if name in protocols])
    ranked: dict[str, list[Array]] = {name: [] for name in protocols}
    recommended = []
    for part in _parts(len(users), len(known.items)):
        chosen = from_sequences([known[user] for user in users[part]], known.items)
        targets = held[users[part]]
        scores, seen = score(chosen), chosen.matrix().toarray() > 0
        for name in protocols:
            if name in SAMPLED:
                ranked[name].append(metrics.sampled_ranks(scores, targets, drawn[name][part]))
            else:
                ranked[name].append(metrics.ranks(scores, targets, seen if name == FULL else None))
        if lists:
            scores[seen] = -np.inf
            recommended.append(stable_topk(torch.from_numpy(scores), LIST)[0])
    return Measured(
        users,
        {name: np.concatenate(parts) for name, parts in ranked.items()},
        _described(np.concatenate(recommended), known) if lists else {},
    )


def negatives(known: Histories, held: Array, seed: int = 0, protocols: Sequence[str] = SAMPLED) -> dict[str, Array]:
    """(users who hold something out, 100) item indexes for each sampled protocol; -1 where a user has no more."""
    users = np.flatnonzero(held != NONE)
    counts = np.bincount(known.flat, minlength=len(known.items))
    found = {}
    for name in protocols:
        random = np.random.default_rng((seed, SAMPLED.index(name)))
        drawn = []
        for part in _parts(len(users), len(known.items)):
            seen = from_sequences([known[user] for user in users[part]], known.items).matrix().toarray() > 0
            drawn.append(metrics.draw(seen, held[users[part]], random, counts if name == POPULAR else None))
        found[name] = np.concatenate(drawn) if drawn else np.zeros((0, 0), dtype=np.int64)
    return found


def at_most(held: Array, users: int | None, seed: int = 0) -> Array:
    """`held` of so many users, drawn without replacement; of the others NONE."""
    holders = np.flatnonzero(held != NONE)
    if users is None or len(holders) <= users:
        return held
    chosen = np.random.default_rng(seed).choice(holders, users, replace=False)
    result = np.full_like(held, NONE)
    result[chosen] = held[chosen]
    return result


def _parts(users: int, items: int) -> Iterator[slice]:
    step = max(1, _SCORES // items)
    return (slice(begin, min(begin + step, users)) for begin in range(0, users, step))


def _described(recommended: Array, known: Histories) -> dict[str, float]:
    """Of the lists (users, 10): how much of the catalogue they show, and how well known it is.

    coverage@10: share of the items that are in a list (Ge et al. 2010, catalogue coverage). novelty@10: mean
    self-information in bits, -log2 of the share of users who met the item (Zhou et al. 2010). popularity@10: mean
    number of users who met a listed item (ARP, Yin et al. 2012).
    """
    flat = recommended.ravel()
    counts = np.bincount(known.flat, minlength=len(known.items))
    met = np.maximum(counts[flat], 1)  # an item that nobody met counts as one met once
    return {
        "coverage@10": len(np.unique(flat)) / len(counts),
        "novelty@10": float(-np.log2(met / len(known)).mean()),
        "popularity@10": float(counts[flat].mean()),
    }


def on_validation(ranker: Ranker | Scorer, split: Split) -> dict[str, float]:
    """Full ranking of the item before the last, training items filtered; of at most VALIDATED users."""
    return measure(ranker, split.train, at_most(split.validation, VALIDATED)).summary()


def on_test(ranker: Ranker | Scorer, split: Split, seed: int = 0) -> dict[str, float]:
    """Full ranking of the last item, all earlier ones (validation's too) known and filtered; and u100."""
    measured = measure(ranker, split.before_test(), split.test, (FULL, UNIFORM), seed=seed)
    sampled = {f"{name} {UNIFORM}": value for name, value in measured.summary(UNIFORM).items()}
    return measured.summary() | sampled
