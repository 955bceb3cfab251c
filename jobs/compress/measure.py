"""How fast the candidates are: all in one process and turn by turn, so that what slows the machine slows each alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.compress.candidates import Forward
from jobs.text import runtime

Array = np.ndarray[Any, Any]
Batch = tuple[Array, Array]  # (B, L) ids and mask

BATCH = 32
_LEAST = 5  # rounds, whatever they take
_TURN = 4  # texts one by one in a turn, after one that only warms the caches


@dataclass(frozen=True)
class Speed:
    """`speedup`: the median over the rounds of what the first candidate took, as a multiple of this one's time."""

    p50_ms: float
    p99_ms: float
    speedup: float
    rounds: int


def single(
    forwards: Mapping[str, Forward], rows: Sequence[Array], pad: int, rounds: int = 40, most_s: float = 30
) -> dict[str, Speed]:
    """Milliseconds a text, one text a call."""
    texts = [runtime.padded([row], pad) for row in rows]
    turns = [[texts[(number * _TURN + each) % len(texts)] for each in range(_TURN)] for number in range(rounds)]
    return _interleaved(forwards, turns, most_s, warm=True)


def batched(
    forwards: Mapping[str, Forward], rows: Sequence[Array], pad: int, rounds: int = 9, most_s: float = 30
) -> dict[str, Speed]:
    """Milliseconds a batch of 32 texts of like lengths, as they are served."""
    ordered = sorted(rows, key=len)
    starts = np.linspace(0, max(0, len(ordered) - BATCH), 4).astype(int)[1:3]  # neither the shortest nor the longest
    parts = [runtime.padded(ordered[start : start + BATCH], pad) for start in starts]
    return _interleaved(forwards, [[parts[number % len(parts)]] for number in range(rounds)], most_s, warm=False)


def logits(forward: Forward, rows: Sequence[Array], pad: int) -> Array:
    """(N, C) in the order of the rows, computed in batches of like lengths."""
    order = np.argsort([-len(row) for row in rows], kind="stable")
    parts = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
    made = np.concatenate([forward(*runtime.padded([rows[row] for row in part], pad)) for part in parts])
    found = np.empty_like(made)
    found[order] = made
    return found


def _interleaved(
    forwards: Mapping[str, Forward], turns: Sequence[Sequence[Batch]], most_s: float, warm: bool
) -> dict[str, Speed]:
    calls: dict[str, list[float]] = {name: [] for name in forwards}
    totals: dict[str, list[float]] = {name: [] for name in forwards}
    for forward in forwards.values():
        forward(*turns[0][0])
    began = time.perf_counter()
    for number, turn in enumerate(turns):
        if number >= _LEAST and time.perf_counter() - began > most_s:
            break
        for name, forward in forwards.items():
            if warm:
                forward(*turn[-1])
            took = [_timed(forward, batch) for batch in turn]
            calls[name] += took
            totals[name].append(sum(took))
    first = np.array(next(iter(totals.values())))
    return {
        name: Speed(
            float(np.percentile(calls[name], 50)) * 1e3,
            float(np.percentile(calls[name], 99)) * 1e3,
            float(np.median(first / np.array(totals[name]))),
            len(first),
        )
        for name in forwards
    }


def _timed(forward: Forward, batch: Batch) -> float:
    begin = time.perf_counter()
    forward(*batch)
    return time.perf_counter() - begin
