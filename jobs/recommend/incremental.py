"""A history as a model knows it: mapped and counted whole, or a few new items taken into what a cached list keeps.

The state beside a cached list holds what mapping and counting gave then. It is used when the history now is the one of
that time, as its hash says, and fewer than MOST_NEW items after it. Then the outcome is what a rebuild gives, exactly:
the first mention of an item counts, so later ones change neither the order nor the counts. What was removed or
reordered, or is of another version of the model (which has a row of its own), is rebuilt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from db.recommend import History
from jobs.recommend.artifact import Loaded
from jobs.recommend.features import Counts, count
from jobs.recommend.profile import profile_hash

MOST_NEW = 10  # so many new items rebuild
MOST_KEPT = 2000  # known items in a state: 10 KB of JSON; a longer history is rebuilt each time

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Mapped:
    """A user's history as the model knows it."""

    username: str
    profile_hash: str
    known: Array  # item indexes, oldest first, each once: all, since seen items are filtered by it
    total: int  # items in the history, known or not
    counts: Counts | None = None  # of the known items' features; None: yet to be counted

    @property
    def incremental(self) -> bool:
        return self.counts is not None


def mapped(history: History, loaded: Loaded, *, rebuild: bool = False) -> Mapped:
    """From the state where that can be, else, or to `rebuild`, from the whole history."""
    return (None if rebuild else _taken_in(history, loaded)) or _rebuilt(history, loaded)


def state(user: Mapped, counts: Counts) -> dict[str, Any] | None:
    """What a later increment begins with, as JSON; None where the history is too long to be kept twice."""
    if len(user.known) > MOST_KEPT:
        return None
    return {"items": user.total, "known": user.known.tolist(), "counts": counts}


def _rebuilt(history: History, loaded: Loaded) -> Mapped:
    known = loaded.known(history.item_ids)
    return Mapped(history.username, history.profile_hash, np.array(known, dtype=np.int64), len(history.item_ids))


def _taken_in(history: History, loaded: Loaded) -> Mapped | None:
    if history.state is None:
        return None
    before, total = history.state["items"], len(history.item_ids)
    if total - before >= MOST_NEW or profile_hash(history.item_ids[:before]) != history.cached_hash:
        return None
    known, counts = history.state["known"], history.state["counts"]
    seen = set(known)
    new = [item for item in loaded.known(history.item_ids[before:]) if item not in seen]
    features = loaded.catalogue.features
    counts = count((features.get(loaded.items[item], {}) for item in new), onto=counts)
    return Mapped(history.username, history.profile_hash, np.array([*known, *new], dtype=np.int64), total, counts)
