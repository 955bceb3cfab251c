"""Classifiers of the same data side by side: accuracy, latency, size, and which of them no other beats in both.

Latencies compare only if they were measured alike. Where a comparison has timed two or more of these versions in turns,
its figures are taken; else those that compressions left in the registry: of what they made, and, by its speed-up, of
what they made it from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from db.measured import Comparison, Version
from jobs.classify.verdict import front
from jobs.training.registered import origins
from web.pages.plot import Plot, Point, plot
from web.pages.values import number

SHOWN = 40  # lines of a table, and bubbles: those that were timed first


@dataclass(frozen=True, slots=True)
class Line:
    """A version; number: its bubble's in the plot, for those whose latency is known."""

    version: Version
    accuracy: float | None
    p50_ms: float | None
    number: int | None = None
    pareto: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The classifiers of one data set, the most accurate first. split: where their accuracy is from."""

    title: str
    split: str
    lines: list[Line]
    plot: Plot | None
    comparison: Comparison | None
    more: int  # that are not shown


def groups(versions: Sequence[Version], comparisons: Sequence[Comparison]) -> list[Group]:
    """One for each data set that classifiers were measured on, by name."""
    of_data: dict[tuple[str, str], list[Version]] = {}
    for each in versions:
        if _accuracy(each, "dev") is not None:
            of_data.setdefault((each.data or "unnamed data", each.data_sha256 or ""), []).append(each)
    names = [name for name, _ in of_data]
    return [
        _group(name if names.count(name) == 1 else f"{name} ({sha[:8]})", members, comparisons)
        for (name, sha), members in sorted(of_data.items())
    ]


def _group(title: str, members: Sequence[Version], comparisons: Sequence[Comparison]) -> Group:
    labels = {each.label for each in members}
    found = next((each for each in comparisons if len(labels & each.entries.keys()) > 1), None)
    if found is not None:
        split = found.on
        lines = [_compared(each, found.entries.get(each.label), split) for each in members]
    else:
        split = "test" if all(_accuracy(each, "test") is not None for each in members) else "dev"
        times = _registered(members)
        lines = [Line(each, _accuracy(each, split), times.get((each.name, each.version))) for each in members]
    lines.sort(key=lambda each: (each.p50_ms is None, -(each.accuracy or 0)))
    shown = _marked(lines[:SHOWN])
    points = [_point(each) for each in shown if each.number is not None]
    drawn = plot(points) if len(points) > 1 else None
    return Group(title, split, shown, drawn, found, len(lines) - len(shown))


def _compared(version: Version, entry: dict[str, Any] | None, split: str) -> Line:
    if entry is None:
        return Line(version, _accuracy(version, split), None)
    return Line(version, number(entry.get("accuracy")), number(entry.get("p50_ms")))


def _registered(members: Sequence[Version]) -> dict[tuple[str, int | None], float]:
    """Milliseconds of one text, as compressions measured them: the newest that tells."""
    own, before = dict[tuple[str, int | None], float](), dict[tuple[str, int | None], float]()
    for each in sorted(members, key=lambda each: each.created_at, reverse=True):
        measured = each.metrics.get("compression")
        if not isinstance(measured, dict) or (found := number(measured.get("p50_ms"))) is None:
            continue
        own[each.name, each.version] = found
        if speedup := number(measured.get("speedup_b1")):
            for _, name, version in origins(each.lineage):
                before.setdefault((name, version), found * speedup)
    return before | own


def _marked(lines: Sequence[Line]) -> list[Line]:
    """Numbered as far as they can be drawn, those on the Pareto front marked."""
    drawn = [each for each in lines if each.p50_ms and each.accuracy is not None]
    best = front([_point(each) for each in drawn])
    numbers = {each.version.label: (place, on) for place, (each, on) in enumerate(zip(drawn, best, strict=True), 1)}
    marked = []
    for each in lines:
        place, on = numbers.get(each.version.label, (None, False))
        marked.append(replace(each, number=place, pareto=on))
    return marked


def _point(line: Line) -> Point:
    version = line.version
    return Point(
        line.number or 0, version.label, line.accuracy or 0.0, line.p50_ms or 0.0, version.size_bytes,
        version.is_current, line.pareto,
    )  # fmt: skip


def _accuracy(version: Version, split: str) -> float | None:
    measured = version.metrics.get(split)
    return number(measured.get("accuracy")) if isinstance(measured, dict) else None
