"""The embedded editor and scorer with what real models cost besides: seconds to load, and memory that one of two fits.

A worker takes them when GRISTMILL_EDIT_ADAPTERS has benchmarks.editors.*
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from jobs.edit.adapters.base import EditRequest, EditResult, Scored, ScoreRequest, checked
from jobs.edit.measured import MeasuredScorer
from jobs.edit.procedural import ProceduralEditor

EDITOR_BYTES, SCORER_BYTES = 50 * 10**9, 45 * 10**9
MODEL_MEMORY = "60GB"  # of a worker: room for either, never for both


class SlowEditor(ProceduralEditor):
    """`model` only makes another of it."""

    @checked
    def __init__(self, *, load_s: float = 2.0, pair_s: float = 0.0, model: str = "") -> None:
        super().__init__()
        self.load_s, self.pair_s, self.model = load_s, pair_s, model

    @property
    def memory_bytes(self) -> int:
        return EDITOR_BYTES

    def load(self) -> None:
        super().load()
        time.sleep(self.load_s)

    def edit_batch(self, requests: Sequence[EditRequest]) -> list[EditResult]:
        time.sleep(self.pair_s * len(requests))
        return super().edit_batch(requests)


class SlowScorer(MeasuredScorer):
    """As the editor."""

    @checked
    def __init__(self, *, load_s: float = 2.0, pair_s: float = 0.0) -> None:
        super().__init__()
        self.load_s, self.pair_s = load_s, pair_s

    @property
    def memory_bytes(self) -> int:
        return SCORER_BYTES

    def load(self) -> None:
        super().load()
        time.sleep(self.load_s)

    def score_batch(self, requests: Sequence[ScoreRequest]) -> list[Scored]:
        time.sleep(self.pair_s * len(requests))
        return super().score_batch(requests)
