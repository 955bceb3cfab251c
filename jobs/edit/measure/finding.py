"""What was found of one operation, and how well that is what was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = 0.01  # the adherence of an edit that left out what was asked; one that did the opposite has 0
_EXACT = (0.8, 1.25)
_LOOSE = (0.55, 1.8)  # "brighter" has many right answers


class Unmeasurable(ValueError):
    """This picture cannot show whether the instruction was followed; the pair has this reason instead of a score."""


@dataclass(frozen=True)
class Finding:
    adherence: float  # 0-1
    words: str  # a clause, without a full stop


def adherence(share: float, loose: bool = False, band: tuple[float, float] | None = None) -> float:
    """From the share of what was asked that was done: 1 within the band, and falling with the square beside it.

    share: 1 is as asked, 0 nothing, below 0 the opposite, above 1 too much. With the square, half of the change gives
    half of the score, since the score is a geometric mean.
    """
    if not math.isfinite(share):
        return 0.0
    low, high = band or (_LOOSE if loose else _EXACT)
    if share <= 0:
        return max(0.0, NOTHING * (1 + 4 * share)) if share < -0.05 else NOTHING
    if share < low:
        return max(NOTHING, (share / low) ** 2)
    return 1.0 if share <= high else max(NOTHING, (high / share) ** 2)


def together(findings: Sequence[Finding]) -> float:
    """Geometric mean, so that one operation left out of two cannot be made up for by the other."""
    product = math.prod(finding.adherence for finding in findings)
    return product ** (1 / len(findings))


def ratio(measured: float, asked: float) -> float:
    """The share of a factor that was reached, on a logarithmic scale: half of "twice" is 1.41 times."""
    return math.log(max(measured, 1e-3)) / math.log(asked)
