"""What one training did over all its attempts: losses, metrics, where the time went, memory, what was chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Self

NOT_METRICS = ("epoch", "seconds", "loss")  # of an epoch's entry; the others are the validation's


@dataclass(frozen=True)
class Point:
    """The mean of what was read since the point before: losses are read at intervals, not at each step."""

    step: int  # optimisation steps done, 1 the first
    seconds: float  # of training so far
    loss: float  # mean over the steps, each a mean over its targets
    rate: float
    norm: float | None = None  # of the gradient before clipping, at this step


@dataclass(frozen=True)
class Choice:
    """What `auto` decided of one option."""

    option: str
    value: Any
    why: str
    ms: dict[str, float] = field(default_factory=dict)  # median milliseconds a step, by the values that were tried


@dataclass
class Record:
    """JSON values only; kept in each checkpoint, so that a training that was killed reports all of itself."""

    points: list[Point] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)  # "epoch", "seconds", "loss" and the metrics
    spent: dict[str, float] = field(default_factory=dict)  # seconds by stage: "step", "validate", "checkpoint", …
    steps: int = 0
    examples: int = 0
    targets: int = 0
    tokens: int = 0  # padding included
    padding: int = 0  # of them
    resumed: list[int] = field(default_factory=list)  # steps from which an attempt went on
    events: list[str] = field(default_factory=list)  # a loss that is not finite, a batch that was halved, …
    choices: list[Choice] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)  # all that was in force
    profile: list[dict[str, Any]] = field(default_factory=list)  # "name", "calls", "ms", "share", largest first
    memory: dict[str, float] = field(default_factory=dict)  # MB: "host_peak", "device_peak"
    device: str = ""

    @contextmanager
    def spending(self, stage: str) -> Iterator[None]:
        begin = perf_counter()
        try:
            yield
        finally:
            self.spent[stage] = self.spent.get(stage, 0.0) + perf_counter() - begin

    @property
    def seconds(self) -> float:
        """Of all that was spent so far."""
        return sum(self.spent.values())

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        points = [Point(**each) for each in value["points"]]
        return cls(**value | {"points": points, "choices": [Choice(**each) for each in value["choices"]]})
