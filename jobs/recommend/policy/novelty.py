"""Novelty as self-information: -log2 of the chance that an event is of this item (Zhou et al. 2010); few know it."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def self_information(popularity: Array) -> Array:
    """(n,) bits, for popularity (n,) in events of any unit; one event more each, so that none is infinitely novel."""
    counts = np.maximum(popularity, 0) + 1.0
    return np.asarray(-np.log2(counts / counts.sum()))
