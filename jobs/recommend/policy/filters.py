"""Which items a policy allows: genres, tags, years and the adult mark; plain Python, also where there is no numpy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from jobs.recommend.features import Facts
from jobs.recommend.params import Policy

_LISTED = 40  # names that an error lists; some catalogues have hundreds


class UnknownLabel(ValueError):
    """A genre or a tag that no item of the catalogue has. The message lists those that there are."""


class Filter:
    """Called with an item's facts, says whether the policy allows it. An item whose year is not known is in no range
    of years."""

    def __init__(self, policy: Policy) -> None:
        self.genres = _Labels(policy.genres, policy.without_genres)
        self.tags = _Labels(policy.tags, policy.without_tags)
        self.first, self.last, self.adult = policy.year_from, policy.year_to, policy.adult

    def __call__(self, item: Facts) -> bool:
        if item.adult and not self.adult:
            return False
        if self.first is not None or self.last is not None:
            if item.year is None:
                return False
            if (self.first is not None and item.year < self.first) or (self.last is not None and item.year > self.last):
                return False
        return self.genres.allow(item.genres) and self.tags.allow(item.tags)


class _Labels:
    """One of the wanted, if any are named, and none of the unwanted."""

    def __init__(self, wanted: Iterable[str] | None, unwanted: Iterable[str] | None) -> None:
        self._wanted = {_plain(each) for each in wanted} if wanted is not None else None
        self._unwanted = {_plain(each) for each in unwanted or ()}

    def allow(self, labels: Iterable[str]) -> bool:
        if self._wanted is None and not self._unwanted:
            return True
        own = {_plain(each) for each in labels}
        return (self._wanted is None or bool(own & self._wanted)) and not own & self._unwanted


def unknown_labels(policy: Policy, genres: Iterable[str], tags: Iterable[str]) -> Iterator[tuple[str, str]]:
    """("genre" or "tag", name) of the policy's names that are none of these, whatever their case."""
    for kind, asked, known in (
        ("genre", [*(policy.genres or ()), *(policy.without_genres or ())], genres),
        ("tag", [*(policy.tags or ()), *(policy.without_tags or ())], tags),
    ):
        there = {_plain(each) for each in known} if asked else set()
        yield from ((kind, name) for name in asked if _plain(name) not in there)


def check_labels(policy: Policy, genres: Collection[str], tags: Collection[str]) -> None:
    """Raises UnknownLabel for the first name of the policy's that is none of these."""
    for kind, name in unknown_labels(policy, genres, tags):
        known = genres if kind == "genre" else tags
        if not known:
            raise UnknownLabel(f"{kind} {name!r}: the catalogue has no {kind}s: import one that has")
        named = sorted({_plain(each): each for each in known}.values(), key=str.casefold)
        more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
        raise UnknownLabel(f"unknown {kind} {name!r}: there are {', '.join(named[:_LISTED])}{more}")


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
