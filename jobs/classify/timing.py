"""How fast models answer, all in one process and turn by turn, so that what slows the machine slows each alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Answer = Callable[[Sequence[str]], Any]

BATCH = 32
_TURN = 4  # texts one by one in a turn, after one that only warms the caches
_LEAST = 5  # rounds, whatever they take


@dataclass(frozen=True)
class Speed:
    p50_ms: float
    p99_ms: float
    texts_per_s: float
    calls: int  # at batch 1


def measure(
    models: Mapping[str, Answer], texts: Sequence[str], most_s: float, tell: Callable[[], None] = lambda: None
) -> dict[str, Speed]:
    """Texts one at a time, from text to logits, and 32 at a time; `tell` is called between rounds.

    `most_s`: seconds for both together, about; five rounds are made whatever they take.
    """
    single: dict[str, list[float]] = {name: [] for name in models}
    batched: dict[str, list[float]] = {name: [] for name in models}
    for answer in models.values():
        answer(_taken(texts, 0, BATCH))
    for number in _rounds(60, most_s * 0.6):
        tell()
        turn = _taken(texts, number * _TURN, _TURN)
        for name, answer in models.items():
            answer(turn[-1:])
            single[name] += [_timed(answer, [text]) for text in turn]
    for number in _rounds(9, most_s * 0.4):
        tell()
        batch = _taken(texts, number * BATCH, BATCH)
        for name, answer in models.items():
            batched[name].append(_timed(answer, batch))
    return {
        name: Speed(
            1e3 * float(np.percentile(single[name], 50)),
            1e3 * float(np.percentile(single[name], 99)),
            BATCH / float(np.median(batched[name])),
            len(single[name]),
        )
        for name in models
    }


def _rounds(most: int, most_s: float) -> Any:
    began = time.perf_counter()
    for number in range(most):
        if number >= _LEAST and time.perf_counter() - began > most_s:
            return
        yield number


def _taken(texts: Sequence[str], begin: int, count: int) -> list[str]:
    return [texts[(begin + each) % len(texts)] for each in range(count)]


def _timed(answer: Answer, texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    answer(texts)
    return time.perf_counter() - begin
