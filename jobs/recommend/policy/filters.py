"""Which items a policy allows: genres, tags, years and the adult mark; plain Python, also where there is no numpy."""

from __future__ import annotations

from collections.abc import Collection, Iterable

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


def asked(policy: Policy) -> dict[tuple[str, str], str]:
    """The genres and tags that a policy names: (kind, plain name) -> the name as it is written."""
    genres = [*(policy.genres or ()), *(policy.without_genres or ())]
    tags = [*(policy.tags or ()), *(policy.without_tags or ())]
    return dict(zip(_pairs(genres, tags), [*genres, *tags], strict=True))


def labels(genres: Iterable[str], tags: Iterable[str]) -> set[tuple[str, str]]:
    """(kind, plain name) of what items have."""
    return set(_pairs(genres, tags))


def check_labels(policy: Policy, genres: Collection[str], tags: Collection[str]) -> None:
    """Raises UnknownLabel for the first name of the policy's that is none of these."""
    names = asked(policy)
    there = labels(genres, tags) if names else set()
    for kind, plain in names:
        if (kind, plain) in there:
            continue
        known = genres if kind == "genre" else tags
        if not known:
            raise UnknownLabel(f"{kind} {names[kind, plain]!r}: the catalogue has no {kind}s: import one that has")
        listed = sorted({_plain(each): each for each in known}.values(), key=str.casefold)
        more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
        raise UnknownLabel(f"unknown {kind} {names[kind, plain]!r}: there are {', '.join(listed[:_LISTED])}{more}")


def _pairs(genres: Iterable[str], tags: Iterable[str]) -> list[tuple[str, str]]:
    return [("genre", _plain(each)) for each in genres] + [("tag", _plain(each)) for each in tags]


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
