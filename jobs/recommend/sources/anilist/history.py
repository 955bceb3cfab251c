"""A user's list at AniList as a history in time order, and a medium as an item of the catalogue."""

from __future__ import annotations

import calendar
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

_TITLES = ("english", "romaji", "native")


@dataclass(frozen=True)
class Entry:
    media_id: int
    mal_id: int | None
    at: float  # seconds since 1970


def taken(
    raw: Iterable[dict[str, Any]], statuses: Collection[str], min_score: float | None
) -> tuple[list[Entry], Counter[str]]:
    """The entries of these statuses, oldest first and each medium once; how many were left out, by reason.

    An entry without a score is not one of a low score, so it stays.
    """
    entries: list[Entry] = []
    skipped: Counter[str] = Counter()
    for each in {entry["mediaId"]: entry for entry in raw if entry and entry.get("mediaId")}.values():
        status, score = str(each.get("status")).lower(), each.get("score") or 0
        if status not in statuses:
            skipped[status] += 1
        elif min_score is not None and 0 < score < min_score:
            skipped["low score"] += 1
        else:
            entries.append(Entry(each["mediaId"], (each.get("media") or {}).get("idMal"), when(each)))
    return sorted(entries, key=lambda entry: (entry.at, entry.media_id)), skipped


def when(entry: dict[str, Any]) -> float:
    """When it was completed, at the beginning of what is known of the date; without a year, when it last changed."""
    date = entry.get("completedAt") or {}
    year = date.get("year") or 0
    if not 1900 <= year <= 9999:
        return float(entry.get("updatedAt") or 0)
    month = min(max(date.get("month") or 1, 1), 12)
    day = min(max((date.get("day") if date.get("month") else 1) or 1, 1), calendar.monthrange(year, month)[1])
    return float(calendar.timegm((year, month, day, 0, 0, 0)))


def item(media: dict[str, Any], item_id: str, tag_rank: int) -> dict[str, Any]:
    """The row {item_id, title, features} of the catalogue; tags are those of at least this rank (0 to 100)."""
    title = media.get("title") or {}
    titles = [title[name] for name in _TITLES if title.get(name)]
    studios = (media.get("studios") or {}).get("nodes") or []
    roles = (media.get("characters") or {}).get("edges") or []
    actors = [actor["name"]["full"] for role in roles for actor in role.get("voiceActors") or [] if actor.get("name")]
    features = {
        "genres": media.get("genres"),
        "tags": [tag["name"] for tag in media.get("tags") or [] if (tag.get("rank") or 0) >= tag_rank],
        "studios": [studio["name"] for studio in studios],
        "voice_actors": list(dict.fromkeys(filter(None, actors))),
        "year": media.get("seasonYear") or (media.get("startDate") or {}).get("year"),
        "format": media.get("format"),
        "adult": bool(media.get("isAdult")),
        "titles": list(dict.fromkeys(titles)),
        "anilist_id": media.get("id"),
        "mal_id": media.get("idMal"),
        "average_score": media.get("averageScore"),
    }
    known = {name: value for name, value in features.items() if value not in (None, [])}
    return {"item_id": item_id, "title": titles[0] if titles else item_id, "features": known}
