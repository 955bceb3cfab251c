"""A plot of accuracy over latency: where bubbles, front and grid are, in percent of the plot, so that texts keep their
size on a narrow screen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SMALLEST, _LARGEST = 9.0, 24.0  # radii in pixels; a number of two digits fits into the smallest
_ROOM = 0.1  # of the span, left free at each end
_LABELS = 0.15  # of it, more at the left, where the accuracies are written
_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # of the accuracy's axis, in points
_TICKS = 5  # at most, on it


@dataclass(frozen=True, slots=True)
class Point:
    """A model in the plot: accuracy as a share, one text's latency, bytes on disk."""

    number: int
    label: str
    accuracy: float
    p50_ms: float
    size_bytes: float
    in_use: bool = False
    pareto: bool = False


@dataclass(frozen=True, slots=True)
class Bubble:
    """x, y: of its middle, in percent from the left and from the top; radius in pixels."""

    point: Point
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Plot:
    """bubbles: the largest first, so that none is hidden; front: from the fastest on; ticks: (percent, value)."""

    bubbles: list[Bubble]
    front: list[Bubble]
    across: list[tuple[float, str]]
    upwards: list[tuple[float, str]]


def plot(points: Sequence[Point]) -> Plot:
    """Accuracy upwards, milliseconds across on a logarithmic axis, size on disk as a bubble's area. Needs a point."""
    logs = [math.log10(each.p50_ms) for each in points]
    left, right = _span(min(logs), max(logs), least=0.7)
    left -= _LABELS * (right - left)
    shares = [100 * each.accuracy for each in points]
    bottom, top = _span(min(shares), max(shares), least=1.0)
    most = max(each.size_bytes for each in points) or 1.0

    def across(log: float) -> float:
        return round(100 * (log - left) / (right - left), 2)

    def upwards(share: float) -> float:
        return round(100 * (top - share) / (top - bottom), 2)

    bubbles = [
        Bubble(each, across(log), upwards(share), _radius(each.size_bytes / most))
        for each, log, share in zip(points, logs, shares, strict=True)
    ]
    bubbles.sort(key=lambda each: -each.radius)
    front = sorted((each for each in bubbles if each.point.pareto), key=lambda each: (each.x, -each.y))
    return Plot(
        bubbles, front,
        [(across(math.log10(value)), f"{value:g}") for value in _decades(left, right)],
        [(upwards(value), f"{value:g} %") for value in _even(bottom, top)],
    )  # fmt: skip


def _span(low: float, high: float, least: float) -> tuple[float, float]:
    """A little wider than the values, and not narrower than `least`."""
    lacking = max(0.0, least - (high - low)) / 2
    low, high = low - lacking, high + lacking
    return low - _ROOM * (high - low), high + _ROOM * (high - low)


def _radius(share: float) -> float:
    return round(max(_SMALLEST, _LARGEST * math.sqrt(share)), 1)


def _decades(left: float, right: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two logarithms; over three decades and more the powers alone."""
    factors = (1, 2, 5) if right - left < 3 else (1,)
    found = [factor * 10.0**power for power in range(math.floor(left), math.ceil(right) + 1) for factor in factors]
    return [value for value in found if left <= math.log10(value) <= right]


def _even(bottom: float, top: float) -> list[float]:
    step = next((each for each in _STEPS if (top - bottom) / each <= _TICKS), _STEPS[-1])
    first = math.ceil(bottom / step)
    found = [round(number * step, 1) for number in range(first, math.floor(top / step) + 1)]
    return [value for value in found if 0 <= value <= 100]
