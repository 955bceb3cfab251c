"""Which pairs a page shows, and their pictures: the worst of each category, thumbnails read one artifact at a time."""

from __future__ import annotations

import base64
import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from db.edit import EditPair
from db.store import ArtifactError, ArtifactStore
from jobs.edit import images

SHOWN = 300  # pairs with a score on one page, about 3 MB of thumbnails
FAILURES = 100  # failed pairs on one page
SIDE = 160  # pixels of a thumbnail's longer side

Picture = tuple[EditPair, str]  # and "original" or "edited"


@dataclass
class Gallery:
    """Takes all rows of a run, and keeps those that a page has room for."""

    shown: int = SHOWN
    failures: list[EditPair] = field(default_factory=list)
    _worst: dict[str, list[tuple[float, int, EditPair]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, row: EditPair) -> None:
        """See one pair."""
        if row.state == "failed" and len(self.failures) < FAILURES:
            self.failures.append(row)
        if row.state != "scored" or row.score is None:
            return
        kept = self._worst[row.category]
        entry = (-row.score, -row.position, row)
        if len(kept) < self.shown:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)  # the best of them goes

    def worst(self) -> list[EditPair]:
        """The worst first. Each category has its share, so that none is missing where another is bad throughout."""
        ranked = [sorted(kept, reverse=True) for kept in self._worst.values()]
        in_turn = [entry for place in zip_longest(*ranked) for entry in place if entry is not None]
        chosen = in_turn[: self.shown]
        return [row for _, _, row in sorted(chosen, key=lambda each: (-each[0], each[2].category, -each[1]))]


def thumbnails(store: ArtifactStore, rows: Iterable[EditPair]) -> dict[tuple[str, str, str], str]:
    """JPEGs as base64, by (category, pair id, "original" or "edited"); without those that are gone from the store.

    One artifact is opened after the other, and one picture of it, so a page costs its thumbnails and one picture.
    """
    wanted: dict[str, list[tuple[Picture, str]]] = defaultdict(list)
    for row in rows:
        for which, place in (("original", row.original), ("edited", row.edited)):
            if place and place.get("artifact") and place.get("file"):
                wanted[place["artifact"]].append(((row, which), place["file"]))
    found = {}
    for digest, pictures in wanted.items():
        for (row, which), made in _of_artifact(store, digest, pictures):
            found[row.category, row.pair_id, which] = made
    return found


def _of_artifact(
    store: ArtifactStore, digest: str, pictures: Sequence[tuple[Picture, str]]
) -> Iterable[tuple[Picture, str]]:
    try:
        folder = store.fetch(digest)
    except (ArtifactError, OSError):
        return  # cleaned up since; the page says which picture it has not
    for picture, file in pictures:
        try:
            image, _ = images.decode((folder / file).read_bytes())
        except (images.ImageError, OSError):
            continue
        yield picture, base64.b64encode(images.thumbnail(image, SIDE)).decode()
    store.forget(digest)


def facts(row: EditPair) -> dict[str, Any]:
    """One pair as programs read it, a line of pairs.jsonl."""
    names = (
        "category", "pair_id", "instruction", "description", "state", "score", "parts", "words", "failed_at", "error",
        "edit_s", "score_s", "edits", "scores", "original", "edited",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names}
