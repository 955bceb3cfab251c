"""Calibrated recommendations (Steck 2018): a list with the mix of genres that the user's history has.

Each item spreads a mass of one over its genres; p is the mean over the history, q over the list. The list's fault is
KL(p || q~) with q~ = (1 - alpha) q + alpha p (equations 2 to 6). Subtracted from the sum of relevances it is submodular
and monotone up to the list's length, so the greedy choice is within 1 - 1/e of the best (section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ALPHA = 0.01
WORST = float(-np.log(ALPHA))  # of a list that has none of the user's genres


def spread_over(genres: Sequence[Sequence[str]], names: Sequence[str]) -> Array:
    """(n, G) each item's mass over these names; an item without genres has none."""
    place = {name: column for column, name in enumerate(names)}
    mass = np.zeros((len(genres), len(names)))
    for row, own in enumerate(genres):
        columns = [place[name] for name in own if name in place]
        if columns:
            mass[row, columns] = 1 / len(columns)
    return mass


def mix(mass: Array) -> Array:
    """(n, G) to (G,), which sums to one, or is zero when no item has a genre."""
    total = mass.sum()
    return np.asarray(mass.sum(axis=0) / total if total else mass.sum(axis=0))


def divergence(wanted: Array, lists: Array, alpha: float = ALPHA) -> Array:
    """KL(p || q~) in nats of one mix p (G,) and the mixes of several lists q (..., G): 0 is calibrated, -log(alpha)
    has nothing in common."""
    smooth = (1 - alpha) * lists + alpha * wanted
    there = wanted > 0
    return np.asarray((wanted[there] * np.log(wanted[there] / smooth[..., there])).sum(axis=-1))


class Calibration:
    """What each candidate would do for the list's mix."""

    def __init__(self, mass: Array, wanted: Array) -> None:
        """mass (n, G) of the candidates, wanted (G,) the user's mix."""
        self._mass, self._wanted = mass, wanted
        self._listed = np.zeros_like(wanted)

    def take(self, place: int) -> None:
        self._listed = self._listed + self._mass[place]

    def gain(self) -> Array:
        """(n,) minus the divergence of the list with each candidate, as a share of the worst: -1 to 0."""
        lists = self._listed + self._mass
        total = lists.sum(axis=1, keepdims=True)
        return -divergence(self._wanted, lists / np.where(total > 0, total, 1)) / WORST
