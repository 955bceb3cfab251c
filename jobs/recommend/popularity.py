"""How popular items are lately: events, each of which counts half after a half-life (`db.interactions.HALF_LIFE`)."""

from __future__ import annotations

import numpy as np

from db.interactions import HALF_LIFE
from jobs.recommend.histories import Floats, Histories

_DIGITS = 6  # what is smaller is nothing, and a second import of a file changes nothing


def decayed(times: Floats | float, now: float) -> Floats:
    """What events count at `now`, by their times; both in seconds since 1970."""
    return 0.5 ** (np.maximum(now - np.asarray(times, dtype=np.float64), 0.0) / HALF_LIFE.total_seconds())


def popularity(histories: Histories, times: Floats) -> dict[str, float]:
    """Item id -> its popularity when the latest event happened: an old file's items are not all forgotten."""
    counted = np.bincount(histories.flat, decayed(times, float(times.max())), len(histories.items))
    return dict(zip(histories.items, np.round(counted, _DIGITS).tolist(), strict=True))
