"""What changed from one run to another, over the pairs that both have."""

from __future__ import annotations

import heapq
import statistics
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from db.edit import EditPair, EditRun
from jobs.training import interval

SHOWN = 100  # of the pairs that changed most
_CHARACTERS = 100  # of a prompt that differs
# Where and how fast a judge answers is not who it is.
_HOW = {"device", "memory_gb", "memory_bytes", "concurrency", "timeout_s", "retries", "pause_s", "key_variable", "url"}


@dataclass
class Paired:
    """Of one category, or of all: both scores of each pair that has two, and who has one only."""

    name: str
    first: array[float] = field(default_factory=lambda: array("d"))
    second: array[float] = field(default_factory=lambda: array("d"))
    only_first: int = 0  # pairs that have a score in the first run alone: they count for nothing
    only_second: int = 0
    neither: int = 0

    def add(self, before: EditPair, after: EditPair) -> None:
        """One pair as it is in both runs."""
        one, two = score(before), score(after)
        if one is not None and two is not None:
            self.first.append(one)
            self.second.append(two)
        self.only_first += one is not None and two is None
        self.only_second += one is None and two is not None
        self.neither += one is None and two is None

    def json(self, seed: int) -> dict[str, Any]:
        """The mean of the differences, second - first, with its interval: the paired bootstrap over pairs."""
        differences = [two - one for one, two in zip(self.first, self.second, strict=True)]
        found = interval.of_mean(differences, seed)
        return {
            "pairs": len(differences),
            "only_first": self.only_first,
            "only_second": self.only_second,
            "neither": self.neither,
            "mean_first": statistics.fmean(self.first) if differences else None,
            "mean_second": statistics.fmean(self.second) if differences else None,
            "difference": statistics.fmean(differences) if differences else None,
            "difference_interval_95": list(found) if found else None,
            "beyond_chance": bool(found and (found[0] > 0 or found[1] < 0)),
            "better": sum(each > 0 for each in differences),
            "worse": sum(each < 0 for each in differences),
        }


@dataclass
class Changed:
    """Takes all pairs, and keeps those whose score changed most."""

    shown: int = SHOWN
    _most: list[tuple[float, int, EditPair, EditPair]] = field(default_factory=list)

    def add(self, before: EditPair, after: EditPair) -> None:
        """See one pair."""
        one, two = score(before), score(after)
        if one is None or two is None or one == two:
            return
        entry = (abs(two - one), -before.position, before, after)
        if len(self._most) < self.shown:
            heapq.heappush(self._most, entry)
        else:
            heapq.heappushpop(self._most, entry)

    def most(self) -> list[tuple[EditPair, EditPair]]:
        """The largest change first."""
        return [(before, after) for _, _, before, after in sorted(self._most, reverse=True)]


def score(row: EditPair) -> float | None:
    """Of a pair that was scored; what failed since keeps no score that counts."""
    return row.score if row.state == "scored" else None


def judges_differ(first: EditRun, second: EditRun) -> list[str]:
    """In what the two judges are not the same: then their scores measure different things. Empty: the same judge."""
    one, two = _judge(first), _judge(second)
    differ = [name for name in {**one, **two} if one.get(name) != two.get(name)]
    return [f"{name}: {_shown(one.get(name))} and {_shown(two.get(name))}" for name in differ]


def _judge(run: EditRun) -> dict[str, Any]:
    """All that a score depends on, parameter by parameter."""
    prompts: Mapping[str, Any] = run.config.get("prompts") or {}
    identity = {name: value for name, value in run.scorer.items() if name != "parameters"}
    parameters = {f"parameter {name}": value for name, value in (run.scorer.get("parameters") or {}).items()}
    found = {**identity, **parameters, "prompts": prompts.get("score") or {}}
    return {name: value for name, value in found.items() if name.removeprefix("parameter ") not in _HOW}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"
