"""Which items a policy allows: genres, years and the adult mark; plain Python, also where there is no numpy."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jobs.recommend.features import Facts
from jobs.recommend.params import Policy

_LISTED = 40  # genres that an error names; some catalogues have hundreds


class UnknownGenre(ValueError):
    """A genre that no item of the catalogue has. The message lists those that there are."""


class Filter:
    """Called with an item's facts, says whether the policy allows it. An item whose year is not known is in no range
    of years."""

    def __init__(self, policy: Policy) -> None:
        self.wanted = {_plain(each) for each in policy.genres} if policy.genres is not None else None
        self.unwanted = {_plain(each) for each in policy.without_genres or ()}
        self.first, self.last, self.adult = policy.year_from, policy.year_to, policy.adult

    def __call__(self, item: Facts) -> bool:
        if item.adult and not self.adult:
            return False
        if self.first is not None or self.last is not None:
            if item.year is None:
                return False
            if (self.first is not None and item.year < self.first) or (self.last is not None and item.year > self.last):
                return False
        if self.wanted is None and not self.unwanted:
            return True
        own = {_plain(each) for each in item.genres}
        return (self.wanted is None or bool(own & self.wanted)) and not own & self.unwanted


def unknown_genres(policy: Policy, known: Iterable[str]) -> list[str]:
    """The names of the policy's that are none of these, whatever their case."""
    asked = [*(policy.genres or ()), *(policy.without_genres or ())]
    there = {_plain(each) for each in known} if asked else set()
    return [name for name in asked if _plain(name) not in there]


def check_genres(policy: Policy, known: Collection[str]) -> None:
    """Raises UnknownGenre for the first name of the policy's that is none of these."""
    if not (unknown := unknown_genres(policy, known)):
        return
    if not known:
        raise UnknownGenre(f"genre {unknown[0]!r}: the catalogue has no genres: import one that has")
    named = sorted({_plain(each): each for each in known}.values(), key=str.casefold)
    more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    raise UnknownGenre(f"unknown genre {unknown[0]!r}: there are {', '.join(named[:_LISTED])}{more}")


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
