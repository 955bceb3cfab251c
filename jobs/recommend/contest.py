"""Several rankers fitted on one split and measured alike: each chosen by its validation, and looked at on test once.

Whoever is fitted in seconds knows the validation items when the test items are ranked; the networks, which stop by
them, read them as part of the history but are not trained on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import structlog
import torch

from broker.context import Context
from jobs.recommend import blend, evaluate, weights
from jobs.recommend.baselines import BASELINES, Bpr, TooManyItems
from jobs.recommend.evaluate import FULL, LIST_FIGURES, METRIC, PROTOCOLS, Array, Difference, Measured, Scorer
from jobs.recommend.fit import PLAIN, QUICK, Recipe, prefer, train
from jobs.recommend.histories import NONE, Split
from jobs.recommend.ranker import Ranker
from jobs.recommend.stages import Stages
from jobs.training import interval
from jobs.training.memory import Batcher, batcher
from jobs.training.options import Acceleration

log = structlog.get_logger()
NETWORKS = ("sasrec", "bert4rec")
_FIRST = {blend.NETWORK: ("sasrec", 0)}
_SEEDS = {f"{blend.NETWORK}-{number}": ("sasrec", number - 1) for number in (2, 3)}
BLENDS = {  # the networks that each mixes with counts: architecture, and by how much its seed is greater
    "blend": _FIRST,
    "blend-3": _FIRST | _SEEDS,
    "blend-bert4rec": _FIRST | {blend.SECOND: ("bert4rec", 0)},
}
NAMES = (*BASELINES, *NETWORKS, *BLENDS)


@dataclass(frozen=True)
class Run:
    """One fit of a ranker. `seed` is None where nothing is drawn."""

    seed: int | None
    fit_s: float
    validation: dict[str, float]
    test: Measured
    remark: str = ""


@dataclass(frozen=True)
class Entry:
    """A ranker and all its runs; its figures are means over them."""

    name: str
    runs: tuple[Run, ...]

    @property
    def gains(self) -> Array:
        """(users,) ndcg@10 on test, full ranking."""
        return np.asarray(np.mean([run.test.gains for run in self.runs], axis=0))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of ndcg@10: 95 %, bootstrap over users of the mean over seeds."""
        return interval.of_mean(self.gains.tolist())

    @property
    def validation(self) -> float:
        """ndcg@10, by which is chosen."""
        return float(np.mean([run.validation[METRIC] for run in self.runs]))

    @property
    def fit_s(self) -> float:
        return float(np.mean([run.fit_s for run in self.runs]))

    def summary(self, protocol: str = FULL) -> dict[str, float]:
        found = [run.test.summary(protocol) for run in self.runs]
        return {name: float(np.mean([each[name] for each in found])) for name in found[0]}

    def lists(self) -> dict[str, float]:
        return {name: float(np.mean([run.test.lists[name] for run in self.runs])) for name in LIST_FIGURES}


@dataclass(frozen=True)
class Pair:
    """Two entries by paired bootstrap over users: first less second, in ndcg@10."""

    first: str
    second: str
    difference: Difference


@dataclass(frozen=True)
class Contest:
    entries: tuple[Entry, ...]  # the best on test first
    left_out: dict[str, str]  # name -> why

    @property
    def chosen(self) -> Entry:
        """The best on validation."""
        return max(self.entries, key=lambda entry: entry.validation)

    def pairs(self) -> list[Pair]:
        return [
            Pair(one.name, other.name, evaluate.difference(one.gains, other.gains))
            for place, one in enumerate(self.entries)
            for other in self.entries[place + 1 :]
        ]


class Contestants:
    """What is fitted and measured, one run at a time; networks are trained once for all that need them."""

    def __init__(
        self,
        split: Split,
        quick: bool = False,
        users: int | None = None,
        options: Acceleration = PLAIN,
        device: torch.device | None = None,
        ctx: Context | None = None,
    ) -> None:
        """`users`: at most so many, drawn once, are measured. `quick`: small networks and two epochs."""
        self.split, self._quick = split, quick
        self._known = split.before_test()
        self._validation = evaluate.at_most(split.validation, users)
        self._test = np.where(self._validation != NONE, split.test, NONE)
        self._negatives = evaluate.negatives(self._known, self._test)
        self._sizes: Callable[[str, torch.device], Batcher] = partial(batcher, ctx) if ctx is not None else Batcher
        self._stages = Stages(options, device or torch.device("cpu"), ctx)
        self._networks: dict[tuple[str, int], tuple[Ranker, float]] = {}

    @property
    def users(self) -> int:
        """How many are measured."""
        return int((self._test != NONE).sum())

    def run(self, name: str, seed: int) -> Run:
        """Raises TooManyItems where a baseline's matrix does not fit."""
        if name in BASELINES:
            return self._baseline(name, seed)
        return self._network(name, seed) if name in NETWORKS else self._blend(name, seed)

    def measured(self, ranker: Ranker | Scorer) -> Measured:
        """On test."""
        return evaluate.measure(
            ranker, self._known, self._test, PROTOCOLS, lists=True, drawn=self._negatives, batcher=self._sizes
        )

    def validated(self, ranker: Ranker | Scorer) -> dict[str, float]:
        return evaluate.measure(ranker, self.split.train, self._validation, batcher=self._sizes).summary()

    def _baseline(self, name: str, seed: int) -> Run:
        make = partial(Bpr.fit, seed=seed) if name == "bpr" else BASELINES[name]
        validation = self.validated(make(self.split.train))
        begin = time.perf_counter()
        fitted = make(self._known)
        seconds = time.perf_counter() - begin
        return Run(seed if seeded(name) else None, seconds, validation, self.measured(fitted))

    def _network(self, name: str, seed: int) -> Run:
        ranker, seconds = self._trained(name, seed)
        return Run(seed, seconds, self.validated(ranker), self.measured(ranker))

    def _blend(self, name: str, seed: int) -> Run:
        trained = {part: self._trained(kind, seed + more) for part, (kind, more) in BLENDS[name].items()}
        begin = time.perf_counter()
        counted, left_out = blend.counted(self.split.train)
        networks = {part: ranker for part, (ranker, _) in trained.items()}
        learned = weights.learn(networks | counted, self.split, self._sizes, seed)
        mixed = learned.blend(networks | counted)
        validation = self.validated(mixed)
        ranker = blend.knowing(mixed, self._known)
        seconds = sum(each for _, each in trained.values()) + time.perf_counter() - begin
        parts = ", ".join(f"{part} {weight:.3g}" for part, weight in learned.weights.items())
        without = "".join(f"; without {part}: {why}" for part, why in left_out.items())
        return Run(seed, seconds, validation, self.measured(ranker), f"{learned.fusion}: {parts}{without}")

    def _trained(self, name: str, seed: int) -> tuple[Ranker, float]:
        if (name, seed) not in self._networks:
            recipe = prefer(replace(QUICK if self._quick else Recipe(), architecture=name, seed=seed))
            fitted = train(self._stages, self.split, recipe, f"{name}-{seed}")
            self._networks[name, seed] = fitted.model, fitted.record.seconds
        return self._networks[name, seed]


def seeded(name: str) -> bool:
    """Whether a fit of it draws anything."""
    return name == "bpr" or name not in BASELINES


def steps(models: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Every run of a contest, what is quick first."""
    for name in sorted(set(models), key=NAMES.index):
        yield from ((name, seed) for seed in (seeds if seeded(name) else seeds[:1]))


def hold(
    contestants: Contestants,
    models: Sequence[str],
    seeds: Sequence[int],
    tell: Callable[[int, int, str], None] = lambda done, total, message: None,
    others: Sequence[Entry] = (),
) -> Contest:
    """All runs, and whatever `others` there are. `tell(done, total, message)` before each.

    Raises ValueError when nobody is left to be measured.
    """
    runs: dict[str, list[Run]] = {}
    left_out: dict[str, str] = {}
    planned = list(steps(models, seeds))
    for done, (name, seed) in enumerate(planned):
        if name in left_out:
            continue
        tell(done, len(planned), f"{name}, seed {seed}" if seeded(name) else name)
        try:
            runs.setdefault(name, []).append(contestants.run(name, seed))
        except TooManyItems as error:
            left_out[name] = str(error)
            log.warning("ranker_left_out", name=name, reason=str(error))
    entries = [Entry(name, tuple(found)) for name, found in runs.items() if found]
    if not entries and not others:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    return Contest(tuple(sorted((*entries, *others), key=lambda entry: -entry.summary()[METRIC])), left_out)
