"""A user's profile as bars: how many items of the history have which genre, tag, decade, …"""

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.recommend.features import GENRES
from jobs.recommend.why import NOT_SO

SHOWN = 8  # charts
_BARS = 10  # of a chart
_IN_ORDER = ("decade",)  # of their values, not of their counts
_FIRST = (*GENRES, "tags", "tag", "decade")


@dataclass(frozen=True, slots=True)
class Bar:
    """share: of the history's items; length: of the longest bar of the chart."""

    value: str
    count: int
    share: float
    length: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The most frequent values of a feature; more: how many others there are."""

    name: str
    bars: list[Bar]
    more: int


def charts(counts: Mapping[str, Mapping[str, int]], of: int) -> list[Chart]:
    """Genres first, then tags and decades, then what else there is.

    A feature of which nothing repeats says nothing, and so does a mark that no item has.

    counts: `user_profile.features`; of: how many items the history has.
    """
    least = 2 if of > 1 else 1
    names = [
        name
        for name, values in counts.items()
        if any(count >= least and value != NOT_SO for value, count in values.items())
    ]
    if "decade" in names and "year" in names:
        names.remove("year")  # the same, finer than anybody reads
    names.sort(key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    return [_chart(name, counts[name], of) for name in names[:SHOWN]]


def _chart(name: str, counts: Mapping[str, int], of: int) -> Chart:
    best = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_BARS]
    most = best[0][1]
    if name in _IN_ORDER:
        best.sort()
    bars = [Bar(value, count, count / max(1, of), count / most) for value, count in best]
    return Chart(name.replace("_", " "), bars, len(counts) - len(bars))
