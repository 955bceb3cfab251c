"""Which way top lists are computed on this machine: by measurement, once that costs less than what was spent without.

Every process begins with torch in float64 and all items scored. When it has computed for as long under a model as
measuring would take, the other ways are tried on the users at hand: engines that leave the lists as they are, and for
a large catalogue an index whose recall is at least the floor. The fastest stays for as long as the model is loaded. A
small site never pays for it; a large one pays at most twice what the best way would have cost (ski rental).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import structlog
import torch

from broker.errors import summary
from jobs.recommend import settled
from jobs.recommend.baselines import Transitions
from jobs.recommend.blend import Blend
from jobs.recommend.engines import ENGINES, Engine
from jobs.recommend.model import Recommender
from jobs.recommend.precompute import Exhaustive, Search, TopLists, top_lists
from jobs.recommend.ranker import Ranker
from jobs.recommend.settings import settings
from jobs.training.memory import Batcher

log = structlog.get_logger()
Array = np.ndarray[Any, Any]
INDEX_FROM = 20_000  # items
REFERENCE, INDEX = "torch", "index"
_USERS = 256  # that the ways are measured on
_FEWEST = 64
_SCORES = 2**24  # in all that is measured, so that half a million items take seconds
_TIMES = 3
_COST_S = 2.0  # of trying the engines, and
_INDEX_COST_S = 2e-5  # for each item of building an index
_GAIN = 0.9  # of the time: what takes more is not worth a change, or it is noise


@dataclass(frozen=True)
class Tried:
    """One way, how fast it was, and why it was not taken."""

    way: str
    users_per_s: float | None = None
    identical: float | None = None  # share of lists that are torch's
    recall: float | None = None  # of an index
    reason: str | None = None


class Served:
    """A ranker for many users at once. `chosen` and `tried` say how, once there was something to choose."""

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = ranker
        self.chosen, self.tried = REFERENCE, list[Tried]()
        self.by: Search = Exhaustive(ranker)  # the chosen way
        self._spent_s = 0.0
        self._open = ranker.device.type == "cpu"  # a GPU's own half precision is as fast as it gets

    def top_lists(
        self,
        histories: Sequence[Array],
        top_k: int,
        on_batch: Callable[[int, int], None] | None = None,
        batcher: Callable[[str, torch.device], Batcher] = Batcher,
    ) -> TopLists:
        """See jobs.recommend.precompute.top_lists."""
        if self._open and self._worth_it(len(histories)) and all(map(len, histories)):
            self.choose(histories, top_k)
        began = time.perf_counter()
        made = top_lists(self.ranker, histories, top_k, on_batch=on_batch, batcher=batcher, search=self.by)
        self._spent_s += time.perf_counter() - began
        return made

    def said(self) -> dict[str, Any]:
        """For a job's row: {"chosen", "tried": [{"way", "users_per_s", …}]}."""
        tried = [{name: value for name, value in asdict(each).items() if value is not None} for each in self.tried]
        return {"chosen": self.chosen, "tried": tried}

    def _worth_it(self, users: int) -> bool:
        asked = settings().recommend_engine
        if asked not in ("auto", REFERENCE):
            return True
        cost = _COST_S + _INDEX_COST_S * self.ranker.items * self._may_index()
        return users >= _FEWEST and self._spent_s >= cost

    def _may_index(self) -> bool:
        """Whether an index is tried. Of other parts than networks and transitions no candidates are known."""
        if self.ranker.items < INDEX_FROM or settings().recommend_recall == 1:
            return False
        return isinstance(self.ranker, Recommender) or fusible(self.ranker)

    def choose(self, histories: Sequence[Array], k: int) -> None:
        """Measure the ways on these users now, and take the fastest that may be taken."""
        self._open = False
        asked = settings().recommend_engine
        trial = _Trial(self.ranker, _sample(histories, self.ranker.items), k)
        ways: dict[str, Callable[[], Search]] = {}
        for name, build in ENGINES.items():
            if asked in ("auto", name):
                ways[name] = partial(trial.engine, name, build, forced=asked == name)
        if self._may_index():
            ways[INDEX] = trial.index
        best = trial.reference_s
        for name, make in ways.items():
            try:
                search = make()
                seconds = trial.seconds(search)
            except _Refused as error:
                trial.note(name, reason=str(error))
            except Exception as error:  # one that cannot be made is no reason to do without the others
                trial.note(name, reason=summary(error))
            else:
                trial.note(name, users_per_s=round(len(trial.histories) / seconds, 1))
                if asked == name or seconds < _GAIN * best:
                    best, self.by, self.chosen = seconds, search, name
        self.tried = trial.tried()
        log.info("way_of_serving", ranker=self.ranker.name, **self.said())


class _Refused(Exception):
    """A way that may not be taken."""


class _Trial:
    """The ways on some users, beside torch in float64."""

    def __init__(self, ranker: Ranker, histories: list[Array], k: int) -> None:
        self.histories, self._ranker, self._k = histories, ranker, min(k, ranker.items)
        self._notes: dict[str, dict[str, Any]] = {}
        exact = Exhaustive(ranker)
        self._lists = self._run(exact)
        self.reference_s = self.seconds(exact)
        self.note(REFERENCE, users_per_s=round(len(histories) / self.reference_s, 1), identical=1.0)

    def note(self, way: str, **facts: Any) -> None:
        self._notes.setdefault(way, {}).update(facts)

    def tried(self) -> list[Tried]:
        return [Tried(way, **facts) for way, facts in self._notes.items()]

    def engine(self, name: str, build: Callable[[Recommender], Engine], *, forced: bool) -> Search:
        floor = settings().recommend_identical
        exactly = name != "int8"
        if not exactly and floor == 1 and not forced:
            raise _Refused("it changes lists: with GRISTMILL_RECOMMEND_IDENTICAL below 1 it may")
        fast = with_engine(self._ranker, build)
        search: Search = Exhaustive(fast)
        if exactly:
            search = settled.Settled(fast, self._ranker, settled.error(fast, self._ranker, self.histories))
        same = float((self._run(search) == self._lists).all(axis=1).mean())
        self.note(name, identical=round(same, 4))
        if same < floor and not forced:
            raise _Refused(f"{same:.1%} of the lists are torch's, fewer than {floor:.0%}")
        return search

    def index(self) -> Search:
        from jobs.recommend.fused import Fused  # FAISS, which only large catalogues need
        from jobs.recommend.index import Index, reach

        assert isinstance(self._ranker, Recommender | Blend)  # for the type checker
        made = Fused(self._ranker) if isinstance(self._ranker, Blend) else Index(self._ranker)
        floor = settings().recommend_recall
        found = reach(made, floor, self.histories, self._lists)
        self.note(INDEX, recall=round(found, 4))
        if found < floor:
            raise _Refused(f"recall {found:.3f} with {made.probes} probes is below {floor:g}: every item is scored")
        return made

    def seconds(self, search: Search) -> float:
        times = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            self._run(search)
            times.append(time.perf_counter() - began)
        return min(times)

    def _run(self, search: Search) -> Array:
        parts = range(0, len(self.histories), search.most)
        made = [search.best(self.histories[begin : begin + search.most], self._k)[0] for begin in parts]
        return np.concatenate(made)


def with_engine(ranker: Ranker, build: Callable[[Recommender], Engine]) -> Ranker:
    """The same ranker with each of its networks on another engine."""
    if isinstance(ranker, Recommender):
        return build(ranker)
    if isinstance(ranker, Blend) and ranker.fusion == "score":
        parts = {name: build(part) if isinstance(part, Recommender) else part for name, part in ranker.parts.items()}
        return Blend(parts, ranker.weights, ranker.fusion)
    raise _Refused("its parts are fused by rank, in which a rounding can be a whole place")


def fusible(ranker: Ranker) -> bool:
    """Whether it is a blend of networks, whose items have vectors, and of transition counts, added by their scores."""
    if not isinstance(ranker, Blend) or ranker.fusion != "score":
        return False
    parts = list(ranker.parts.values())
    return isinstance(parts[0], Recommender) and all(isinstance(part, Recommender | Transitions) for part in parts)


def _sample(histories: Sequence[Array], items: int) -> list[Array]:
    """Some of them, of all lengths, the shortest first as in batches."""
    ordered = sorted(histories, key=len)
    users = max(_FEWEST, min(_USERS, _SCORES // items))
    return [ordered[at] for at in np.linspace(0, len(ordered) - 1, min(users, len(ordered))).astype(int)]
