"""What is known of an item, in plain Python: its (feature, value) pairs, and counts of them over a history.

Feature names are those of the catalogue that was imported. The few that mean something to a policy (genres, tags,
year, adult) are found by the names that catalogues give them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Features = Mapping[str, Any]  # JSON: name -> scalar or list of scalars
Counts = dict[str, dict[str, int]]  # feature -> value -> number of items

GENRES = ("genres", "genre", "categories", "category")
TAGS = ("tags", "tag", "keywords", "keyword")
YEARS = ("year", "seasonyear", "releaseyear", "startyear", "releasedate", "startdate", "released", "date")
ADULT = ("adult", "isadult", "nsfw")
NAMING = frozenset({"titles", "anilist_id", "mal_id", "average_score"})  # say which item it is, not what it is like
_LONGEST = 80  # a longer text is a description, of which there is nothing to count
_YEAR = re.compile(r"\s*(\d{4})\b")


@dataclass(frozen=True, slots=True)
class Facts:
    """What policies ask of an item. Genres and tags as they are written."""

    genres: tuple[str, ...]
    tags: tuple[str, ...]
    year: int | None
    adult: bool


def values(features: Features) -> Iterator[tuple[str, str]]:
    """The (feature, value) pairs of one item, each once; a year counts for its decade too."""
    pairs: dict[tuple[str, str], None] = {}
    for name, cell in features.items():
        if name in NAMING:
            continue
        for value in cell if isinstance(cell, list) else [cell]:
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            text = json.dumps(value) if isinstance(value, bool) else str(value)
            if value is None or not text or len(text) > _LONGEST:
                continue
            pairs[name, text] = None
            if name == "year" and isinstance(value, int):
                pairs["decade", f"{value // 10 * 10}s"] = None
    return iter(pairs)


def count(items: Iterable[Features], onto: Counts | None = None) -> Counts:
    """Counts over one history, item by item; `onto`: what has been counted of it, which stays as it is."""
    counts: Counts = {name: dict(found) for name, found in (onto or {}).items()}
    for features in items:
        for name, value in values(features):
            of = counts.setdefault(name, {})
            of[value] = of.get(value, 0) + 1
    return counts


def facts(features: Features) -> Facts:
    """Genres, tags, year and the adult mark, under whichever of their names the catalogue has them; unknown is none."""
    if not features:
        return Facts((), (), None, False)
    plain = {name.replace("_", "").replace(" ", "").casefold(): cell for name, cell in features.items()}
    year = next((made for name in YEARS if (made := _year(plain.get(name))) is not None), None)
    return Facts(_labels(plain, GENRES), _labels(plain, TAGS), year, any(_true(plain.get(name)) for name in ADULT))


def _labels(plain: Features, names: Iterable[str]) -> tuple[str, ...]:
    found: Any = next((cell for name in names if (cell := plain.get(name))), [])
    return tuple(dict.fromkeys(str(each) for each in (found if isinstance(found, list) else [found])))


def _year(cell: Any) -> int | None:
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return int(cell) if 1000 <= cell < 10_000 else None
    found = _YEAR.match(cell) if isinstance(cell, str) else None
    return int(found[1]) if found else None


def _true(cell: Any) -> bool:
    """A CSV writes a mark as text."""
    return cell.strip().casefold() in ("true", "yes", "1", "y") if isinstance(cell, str) else bool(cell)
