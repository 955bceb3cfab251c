"""What a comparison says: confidence intervals, the Pareto front, and a recommendation in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

_Z = 1.959964  # of a normal distribution: 95 % lie within
BUDGETS_MS = (1.0, 5.0, 20.0, 100.0)
NEAR = 0.005  # of accuracy, which is as good as the best for those who want it small


@dataclass(frozen=True)
class Entry:
    """One model's line of the table. None: not known, or not measured."""

    model: str  # name@version
    role: str
    form: str
    architecture: str
    lineage: str
    texts: int
    accuracy: float
    low: float  # of the 95 % interval of the accuracy
    high: float
    macro_f1: float
    ece: float | None
    p50_ms: float  # one text at a time, tokenizing included
    p99_ms: float
    texts_per_s: float  # 32 at a time
    disk_mb: float | None
    memory_mb: float | None
    first_answer_s: float | None  # from the start of a process
    parameters: int | None
    sparsity: float | None
    flops: int | None
    agreement: float  # share of the texts with the same answer as the most accurate's
    p_value: float | None  # that the most accurate is no better than this one, or worse
    recalls: tuple[float | None, ...]  # of each class
    in_use: bool = True
    pareto: bool = False

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Timed(Protocol):
    """A model whose accuracy and speed are known."""

    @property
    def accuracy(self) -> float: ...

    @property
    def p50_ms(self) -> float: ...


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share. Wilson 1927, Probable Inference; without continuity correction."""
    if not total:
        return 0.0, 1.0
    share, squared = right / total, _Z**2 / total
    middle = share + squared / 2
    spread = _Z * math.sqrt(share * (1 - share) / total + squared / (4 * total))
    return max(0.0, (middle - spread) / (1 + squared)), min(1.0, (middle + spread) / (1 + squared))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of the exact test that two classifiers err equally often, of the texts that only one has right.

    McNemar 1947, with the binomial distribution; for classifiers Dietterich 1998, Approximate Statistical Tests,
    section 3.1.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    log_all = math.lgamma(total + 1) - total * math.log(2)
    tail = sum(math.exp(log_all - math.lgamma(k + 1) - math.lgamma(total - k + 1)) for k in range(fewer + 1))
    return min(1.0, 2 * tail)


def front(entries: Sequence[Timed]) -> list[bool]:
    """Which are on the Pareto front: no other is as accurate and as fast, and better in one of the two."""
    points = [(-each.accuracy, each.p50_ms) for each in entries]
    return [not any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in points) for own in points]


def recommend(entries: Sequence[Entry], baseline: Entry | None = None) -> list[str]:
    """Sentences: the most accurate, the best within each time, the smallest that is nearly as good, who is beaten."""
    best = max(entries, key=lambda each: (each.accuracy, -each.p50_ms))
    said = [f"most accurate: {_named(best)}"]
    last: Entry | None = None
    for budget in BUDGETS_MS:
        within = [each for each in entries if each.p50_ms <= budget]
        if not within:
            said += [f"for CPU below {budget:g} ms: no model here answers that fast"]
            continue
        chosen = max(within, key=lambda each: (each.accuracy, -each.p50_ms))
        if chosen is not last:
            said.append(f"for CPU below {budget:g} ms: {_named(chosen)}{_behind(chosen, best)}")
        last = chosen
        if chosen is best:
            break
    near = [each for each in entries if each.accuracy >= best.accuracy - NEAR and each.disk_mb is not None]
    small = min(near, key=lambda each: each.disk_mb or 0, default=best)
    if best.disk_mb and small.disk_mb and small.disk_mb < 0.8 * best.disk_mb:
        said.append(
            f"smallest within {100 * NEAR:g} points of the most accurate: {small.model}, {small.disk_mb:,.1f} MB"
        )
    if baseline is not None:
        beaten = [each.model for each in entries if each.accuracy <= baseline.accuracy]
        what = f"the baseline ({100 * baseline.accuracy:.1f} %)"
        said.append(f"no better than {what}: {', '.join(beaten)}" if beaten else f"every model beats {what}")
    return said


def _named(entry: Entry) -> str:
    return (
        f"{entry.model}, {100 * entry.accuracy:.1f} % ({100 * entry.low:.1f}-{100 * entry.high:.1f}), "
        f"p50 {entry.p50_ms:.2f} ms, p99 {entry.p99_ms:.2f} ms"
    )


def _behind(entry: Entry, best: Entry) -> str:
    if entry is best:
        return ""
    lost = f"; {100 * (best.accuracy - entry.accuracy):.1f} points behind {best.model}"
    return lost + (", which may be chance" if entry.p_value is not None and entry.p_value > 0.05 else "")
