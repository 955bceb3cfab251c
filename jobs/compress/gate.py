"""Who may answer in a network's stead: its accuracy on dev within a tolerance, and nearly always the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.text.data import Split

Array = np.ndarray[Any, Any]

MOST = 4000  # texts: then the standard error of an agreement of 96 % is 0.3 points


@dataclass(frozen=True)
class Verdict:
    accuracy: float
    drop_points: float  # that it is less accurate than the network
    agreement: float  # share of the texts that get the same class
    reason: str | None  # why it is refused, None if it passes


@dataclass(frozen=True)
class Gate:
    """The two bounds. Accuracy alone would not do: errors in both directions cancel out in it."""

    tolerance: float = 0.5  # points of accuracy
    agreement: float = 0.96

    def judge(self, found: Array, reference: Array, labels: Array) -> Verdict:
        """Of (N, C) logits, those of the network in float32, and the (N,) classes."""
        chosen, wanted = found.argmax(axis=1), reference.argmax(axis=1)
        accuracy, before = float((chosen == labels).mean()), float((wanted == labels).mean())
        drop, agreement = 100 * (before - accuracy), float((chosen == wanted).mean())
        reason = None
        if not np.isfinite(found).all():
            reason = "its logits are not finite numbers"
        elif drop > self.tolerance + 1e-9:
            reason = f"accuracy falls by {drop:.2f} points, more than {self.tolerance:g}"
        elif agreement < self.agreement:
            reason = f"agrees with float32 on {agreement:.2%} of the texts, fewer than {self.agreement:.0%}"
        return Verdict(accuracy, drop, agreement, reason)


def stratified(split: Split, most: int = MOST, seed: int = 42) -> Split:
    """At most so many texts of the split, of each class its share, in their order."""
    if len(split) <= most:
        return split
    random = np.random.default_rng(seed)
    rows: list[Array] = []
    for label in np.unique(split.labels):
        of = np.flatnonzero(split.labels == label)
        rows.append(random.permutation(of)[: max(1, round(most * len(of) / len(split)))])
    chosen = np.sort(np.concatenate(rows))
    return Split(tuple(split.texts[row] for row in chosen), split.labels[chosen])
