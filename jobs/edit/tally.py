"""What a run came to, counted row by row: scores, failures with their reasons, and time, by category and overall."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from db.edit import EditPair
from jobs.training import interval

UNPARSABLE = "unparsable: "  # how the error begins of a pair whose scorer gave no number
_REASONS = 50  # of the most frequent; a reason may quote what was different in each pair


@dataclass
class Tally:
    """Of one category, or of all. Scores are kept as numbers, 8 bytes each, for the median and the interval."""

    name: str
    pairs: int = 0
    waiting: int = 0  # not edited yet, or not scored
    failed: Counter[str] = field(default_factory=Counter)  # by stage: intake, edit, score
    unparsable: int = 0  # among those that failed at score
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # (stage, reason)
    scores: array[float] = field(default_factory=lambda: array("d"))
    parts: dict[str, list[float]] = field(default_factory=dict)  # name -> [sum, count]
    edit_s: float = 0.0
    edited: int = 0
    score_s: float = 0.0
    scored: int = 0  # asked and timed, so with those that failed there
    again: Counter[str] = field(default_factory=Counter)  # pairs edited, or scored, more than once

    def add(self, row: EditPair) -> None:
        """Count one pair."""
        self.pairs += 1
        if row.state == "scored" and row.score is not None:
            self.scores.append(row.score)
        elif row.state == "failed":
            stage, reason = row.failed_at or "score", row.error or "no reason was recorded"
            self.failed[stage] += 1
            self.unparsable += reason.startswith(UNPARSABLE)
            self.reasons[stage, reason] += 1
        else:
            self.waiting += 1
        for name, value in (row.parts or {}).items():
            held = self.parts.setdefault(name, [0.0, 0])
            held[0] += value
            held[1] += 1
        if row.edit_s is not None:
            self.edit_s, self.edited = self.edit_s + row.edit_s, self.edited + 1
        if row.score_s is not None:
            self.score_s, self.scored = self.score_s + row.score_s, self.scored + 1
        self.again.update(edits=row.edits > 1, scores=row.scores > 1)

    def json(self, seed: int) -> dict[str, Any]:
        """The figures. Two means: over the pairs that have a score, and with each failure counted as 0."""
        scores, failures = self.scores, self.failed.total()
        found = interval.of_mean(scores, seed)
        return {
            "pairs": self.pairs,
            "scored": len(scores),
            "failed": failures,
            "failed_at": dict(self.failed),
            "unparsable": self.unparsable,
            "waiting": self.waiting,
            "mean": statistics.fmean(scores) if scores else None,
            "mean_interval_95": list(found) if found else None,
            "mean_failures_as_0": sum(scores) / (len(scores) + failures) if scores or failures else None,
            "standard_deviation": statistics.stdev(scores) if len(scores) > 1 else None,
            "min": min(scores, default=None),
            "median": statistics.median(scores) if scores else None,
            "max": max(scores, default=None),
            "parts": {name: total / count for name, (total, count) in sorted(self.parts.items())},
            "edit_s": self.edit_s,
            "edit_s_a_pair": self.edit_s / self.edited if self.edited else None,
            "score_s": self.score_s,
            "score_s_a_pair": self.score_s / self.scored if self.scored else None,
            "edited_again": self.again["edits"],
            "scored_again": self.again["scores"],
        }

    def why(self) -> list[dict[str, Any]]:
        """The reasons of failures, the most frequent first."""
        return [
            {"stage": stage, "reason": reason, "pairs": count}
            for (stage, reason), count in self.reasons.most_common(_REASONS)
        ]
