"""What both stages of an evaluation have in common: how pairs go through a model, and into their rows.

Each call of a model ends with its rows committed, so that what a killed worker leaves undone is the call in hand.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy.orm import Session

from broker.context import Context
from broker.errors import HandedOver, JobError, summary
from db import edit
from db.edit import EditPair, EditRun
from db.edit import Stage as Name
from db.store import ArtifactError, NoSpace
from jobs.edit import kept
from jobs.edit.adapters.base import Adapter
from jobs.edit.config import Config
from jobs.edit.images import ImageError
from jobs.training import device, memory
from jobs.training.memory import OutOfMemory

log = structlog.get_logger()

_LOADS = 3  # attempts at a model that cannot be loaded; there are more for pairs that kill their process
_TRIES_ALONE = 2  # a pair whose process died so often while it alone was being done is not tried again

A = TypeVar("A", bound=Adapter)
Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True)
class Done(Generic[R]):
    """What a model made of a pair, or an error; and its share of the time that its call took."""

    pair: EditPair
    answer: R
    seconds: float


class Stage(ABC, Generic[A, Q, R]):
    """What both stages have in common: how pairs go through a model, and into their rows."""

    name: Name
    role: str  # of its model, in the configuration

    def __init__(self, ctx: Context, run: EditRun, config: Config, charged: int) -> None:
        """charged: attempts of the job; after the first, whose process may have died of a pair, each is done alone."""
        self.ctx, self.run, self.config, self.charged = ctx, run, config, charged
        self.spec: dict[str, Any] = config.row()[self.role]
        self.images = kept.Images(ctx.store)

    @abstractmethod
    def adapter(self) -> A:
        """Not loaded yet."""

    @abstractmethod
    def request(self, pair: EditPair) -> Q:
        """What the model is asked about a pair, with its images opened."""

    @abstractmethod
    def ask(self, model: A) -> Callable[[Sequence[Q]], list[R]]:
        """The model's method."""

    @abstractmethod
    def checked(self, answer: R) -> R:
        """The answer, if it can be recorded; raises what says that it is none. An adapter is anybody's code."""

    @abstractmethod
    def failed(self, reason: str) -> R:
        """What stands for an answer that the model did not give."""

    @abstractmethod
    def row(self, done: Done[R], folder: Path) -> dict[str, Any]:
        """What is recorded of a pair, but for the names of files: {error, …}."""

    @abstractmethod
    def put(self, session: Session, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rows."""

    def work(self, pairs: Sequence[EditPair], told: dict[str, Any], *, last: bool) -> None:
        """These pairs, a call of the model at a time, each recorded before the next.

        last: with the last of them the job ends. Interrupted between two calls when it is cancelled, or handed over.
        """
        model, key = self._resident()
        # A model that is loaded and has not needed torch computes on the host: it is not to pay for torch's import.
        where = device.resolve(model.device) if "torch" in sys.modules else device.HOST
        sizes = memory.batcher(self.ctx, key, where)
        lonely = self.charged > 1
        size = 1 if lonely else getattr(self.config.batch, self.name)
        left, total, errors = list(pairs), len(pairs), 0
        while left:
            self.ctx.progress(total - len(left), total, stage=self.name)
            if self.ctx.stopping:
                raise HandedOver(f"{self.ctx.job_id} goes on elsewhere: its worker is being stopped")
            if lonely and self._deadly(left[0]):
                reason = f"its process died {_TRIES_ALONE} times while this pair alone was in the {self.name} stage"
                done = [Done(left[0], self.failed(reason), 0.0)]
            else:
                try:
                    done = next(sizes.run(lambda part: self._asked(model, part), left, size))
                except OutOfMemory as error:
                    done = [Done(left[0], self.failed(str(error)), 0.0)]
            left = left[len(done) :]
            errors += self._record(done, told | {self.name: {"pairs": total, "failed": errors}}, last and not left)
        told[self.name] = {"pairs": total, "failed": errors}

    def _resident(self) -> tuple[A, str]:
        adapter = self.adapter()

        def load() -> A:
            adapter.load()
            return adapter

        key: str = self.spec["class"]
        if parameters := self.spec["parameters"]:
            key += f" {hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]}"
        try:
            return self.ctx.models.get(key, load, adapter.memory_bytes), key
        except Exception as error:
            if isinstance(error, JobError) or self.charged < _LOADS:
                raise
            raise JobError(f"{adapter.name} cannot be loaded: {summary(error)}") from error

    def _deadly(self, pair: EditPair) -> bool:
        with self.ctx.session() as session:
            return edit.begin_alone(session, pair) > _TRIES_ALONE

    def _asked(self, model: A, part: Sequence[EditPair]) -> list[Done[R]]:
        """The model's answers about these pairs. Their images are in memory for as long as this takes."""
        began = time.perf_counter()
        requests: dict[int, Q] = {}
        answers: dict[int, R] = {}
        for number, pair in enumerate(part):
            try:
                requests[number] = self.request(pair)
            except NoSpace:
                raise
            except (ArtifactError, ImageError) as error:  # its image is gone or damaged; the others' are not
                answers[number] = self.failed(summary(error))
        answers |= zip(requests, self._answers(self.ask(model), list(requests.values())), strict=True)
        each_s = (time.perf_counter() - began) / len(part)
        return [Done(pair, answers[number], each_s) for number, pair in enumerate(part)]

    def _answers(self, ask: Callable[[Sequence[Q]], list[R]], requests: list[Q]) -> list[R]:
        """An exception may be any one's fault: then each is asked alone, and the one that fails again has failed."""
        if not requests:
            return []
        try:
            answers = [self.checked(each) for each in ask(requests)]
            if len(answers) != len(requests):
                raise JobError(f"the adapter gave {len(answers)} answers to {len(requests)} requests: give one to each")
            return answers
        except Exception as error:  # it must not end the run
            if memory.ran_out(error):
                raise
            if len(requests) == 1:
                return [self.failed(f"{type(error).__name__}: {summary(error)}")]
            log.warning("edit_call_failed", stage=self.name, pairs=len(requests), reason=summary(error))
        return [answer for each in requests for answer in self._answers(ask, [each])]

    def _record(self, done: Sequence[Done[R]], told: dict[str, Any], ends: bool) -> int:
        """Images into the store, rows into Postgres, and with the last ones the job's success; returns the failures."""
        with self.ctx.store.scratch() as folder:
            names = [{"category": each.pair.category, "pair_id": each.pair.pair_id} for each in done]
            rows = [name | self.row(each, folder) for name, each in zip(names, done, strict=True)]
            failures = sum(row["error"] is not None for row in rows)

            def write(session: Session, digest: str | None) -> None:
                placed = [row | {"edited": row["edited"] | {"artifact": digest}} if row.get("edited") else row
                          for row in rows]  # fmt: skip
                self.put(session, placed)
                if ends:
                    told[self.name]["failed"] += failures
                    self.ctx.finish(told)

            kept.store(self.ctx, folder, write)
        return failures
