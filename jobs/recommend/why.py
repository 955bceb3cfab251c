"""Why an item is recommended, as far as rows tell it: what it shares with the user's profile, with counts, and which
items of the history are most like it.

Plain Python: a web page shows it from `user_profile.features` and `catalogue_item.features`, without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from jobs.recommend.features import Counts, Features, count, values

if TYPE_CHECKING:
    from db.catalogue import Item
    from db.recommend import UserProfile

SHOWN = 5
_WHEN = ("decade", "year")
LIKE = 2  # items of the history that are named
LOOKED_AT = 500  # the latest items of the history, among which they are sought
_ALIKE = 0.5  # of the features of two items are the same, at least, where one is like the other
NOT_SO = "false"  # of a mark such as adult: that two items lack it is no reason
_RARE = 2  # a value that the user met once says nothing


@dataclass(frozen=True, slots=True)
class Shared:
    """A value of the item's that the user's history has, too: in `count` of its `of` items."""

    feature: str
    value: str
    count: int
    of: int

    def __str__(self) -> str:
        return f"{self.value} ({self.count} of {self.of})"

    def json(self) -> dict[str, Any]:
        return asdict(self)


def shared(item: Features, profile: Counts, of: int, shown: int = SHOWN) -> list[Shared]:
    """The most frequent values that item and profile have in common, the most frequent first, and years behind all.

    profile: counts over the user's history (`user_profile.features`); of: how many items that history has.
    """
    found = [
        Shared(name, value, number, of)
        for name, value in values(item)
        if value != NOT_SO and (number := profile.get(name, {}).get(value, 0)) >= min(_RARE, of)
    ]
    return sorted(found, key=lambda each: (each.feature in _WHEN, -each.count, each.feature, each.value))[:shown]


class Nearest:
    """The items of a history that have most in common with another one, by Jaccard's index of their features.

    Where the model is at hand, `rank.Reasons` tells by its vectors.
    """

    def __init__(self, history: Iterable[tuple[str, Features]]) -> None:
        """history: ids and features, oldest first."""
        self._history = [(item_id, frozenset(values(features))) for item_id, features in history]

    def of(self, item: Features, shown: int = LIKE) -> list[tuple[str, float]]:
        """[(item id, share of all features of both that both have)], the newest of equals first."""
        own = frozenset(values(item))
        found = []
        for place, (item_id, other) in enumerate(self._history):
            both = len(own & other)
            if both and (share := both / (len(own) + len(other) - both)) >= _ALIKE:
                found.append((share, place, item_id))
        return [(item_id, share) for share, _, item_id in nlargest(shown, found)]


@dataclass(frozen=True, slots=True)
class Why:
    """The reasons of one item; like: [(item of the history, likeness)], the nearest first."""

    shared: list[Shared]
    like: list[tuple[Item, float]]

    def json(self) -> dict[str, Any]:
        """As `recommend.rank` gives them."""
        like = [{"item": item.item_id, "title": item.title, "likeness": round(share, 3)} for item, share in self.like]
        return {"shared": [each.json() for each in self.shared], "like": like}


class Reasons:
    """Why items are for one user. Every door tells it by this where no job has told it by the model."""

    def __init__(self, user: UserProfile, items: Mapping[str, Item]) -> None:
        """items: of the catalogue; the latest LOOKED_AT of the user's are looked for there."""
        self._items, self._of = items, user.item_count
        known = [items[item] for item in user.item_ids[-LOOKED_AT:] if item in items]
        # As the last computation stored them, or counted here while there was none.
        self.profile: Counts = user.features or count(item.features for item in known)
        self._near = Nearest((item.item_id, item.features) for item in known)

    def of(self, item_id: str) -> Why:
        features = self._items[item_id].features if item_id in self._items else {}
        like = [(self._items[near], share) for near, share in self._near.of(features)]
        return Why(shared(features, self.profile, self._of), like)


def sentence(found: Sequence[Shared]) -> str:
    """Such as "genres: Drama (34 of 120), War (9 of 120); decade: 1990s (80 of 120)"."""
    by_feature: dict[str, list[str]] = {}
    for each in found:
        by_feature.setdefault(each.feature, []).append(str(each))
    return "; ".join(f"{name.replace('_', ' ')}: {', '.join(said)}" for name, said in by_feature.items())
