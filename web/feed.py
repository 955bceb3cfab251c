"""What this process waits for: one thread listens to Postgres on one connection, and all who wait hear of it.

A final job is announced by Postgres at once. What else happens to the jobs that somebody watches (transitions,
progress) is asked for in one statement every TICK_S, however many watch: a notification on every transition would have
every worker's commit take its turn at one lock of Postgres. A connection that is lost is made again; what came
meanwhile is asked for.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from concurrent.futures import Future as ThreadFuture
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from db import read, watch
from db.engine import autocommit
from db.listen import RECHECK_S, RECONNECT_S
from db.settings import SettingsError, redact
from db.state import FINAL, STARTED
from db.watch import History, Outcome, Transition
from web.gather import Together
from web.watched import KEEP_ALIVE_S, Alarm, Frame, Watched

log = structlog.get_logger()

TICK_S = 0.25
SOON_S = 0.05  # jobs that end one upon the other are asked for together
STOP_S = 5.0
CHILDREN_EVERY = 4  # ticks: how far a fan-out is takes a statement for each that waits

T = TypeVar("T")


@dataclass
class News:
    """What one look brought."""

    outcomes: list[Outcome] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    progress: dict[UUID, dict[str, Any]] = field(default_factory=dict)


class Feed:
    """Started and stopped with the app; its methods are called on the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, list[asyncio.Future[Outcome]]] = {}
        self._watched: dict[UUID, Watched] = {}
        self._alarm = Alarm()
        self._histories: Together[UUID, History] = Together(_histories)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event
        self._over: list[asyncio.Future[None]] = []  # done when nobody is to wait any longer
        self._beat: asyncio.TimerHandle
        self._ticks = 0

    def start(self) -> None:
        """Begin to listen."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._over = [self._loop.create_future()]
        self._keep_alive()
        self._thread.start()

    def end(self) -> None:
        """End the streams and the calls that wait for a job: of themselves some would go on for hours. Predictions may
        still be answered."""
        for each in self._watched.values():
            each.over = True
            each.tell()
        for over in self._over:
            if not over.done():
                over.set_result(None)

    async def stop(self) -> None:
        """The same, and end the thread; one that Postgres keeps waiting is left behind after STOP_S."""
        self._stopping.set()
        self.end()
        self._beat.cancel()
        try:
            await asyncio.wait_for(self._ended.wait(), STOP_S)
        except TimeoutError:
            log.warning("feed_left_behind", reason=f"Postgres did not answer for {STOP_S:g} s")

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return sum(each.listeners for each in self._watched.values())

    @contextmanager
    def expecting(self, job_ids: Iterable[UUID]) -> Any:
        """Futures of these jobs' outcomes, in order. Entered before a job is submitted, none is missed."""
        loop = asyncio.get_running_loop()
        futures = {job_id: loop.create_future() for job_id in job_ids}
        for job_id, future in futures.items():
            self._waiting.setdefault(job_id, []).append(future)
        try:
            yield list(futures.values())
        finally:
            for job_id, future in futures.items():
                left = self._waiting[job_id]
                left.remove(future)
                if not left:
                    del self._waiting[job_id]

    async def final(self, job_id: UUID, timeout_s: float) -> Outcome | None:
        """How a job that is there already ended; None when it did not within so many seconds."""
        with self.expecting([job_id]) as (future,):
            if found := await run_in_threadpool(_outcome, job_id):
                return found
            await asyncio.wait([future, *self._over], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return future.result() if future.done() else None

    async def open(self, job_id: UUID) -> Watched:
        """Begin to watch; `close` must follow. Raises NotFound for a job that is not there."""
        found = self._watched.get(job_id)
        if found is None:
            transitions, outcome = await self._histories.ask(job_id)
            if not transitions:
                raise read.NotFound(f"no job has the id '{job_id}'")
            found = self._watched.setdefault(job_id, Watched(self._alarm, over=any(each.done() for each in self._over)))
            self._add(transitions, {job_id: outcome} if outcome else {})
        found.listeners += 1
        return found

    def close(self, job_id: UUID) -> None:
        """One listener less."""
        found = self._watched[job_id]
        found.listeners -= 1
        if not found.listeners:
            del self._watched[job_id]

    async def stream(self, job_id: UUID, watched: Watched, after: int) -> AsyncIterator[Frame]:
        """The job's events after this one as they go over the wire, until it is final. Closes the watch."""
        try:
            async for frame in watched.frames(after):
                yield frame
        finally:
            self.close(job_id)

    def _keep_alive(self) -> None:
        for each in self._watched.values():
            each.beat()
        self._beat = self._loop.call_later(KEEP_ALIVE_S / 2, self._keep_alive)

    def _deliver(self, news: News) -> None:
        ended = {each.id: each for each in news.outcomes}
        for job_id, outcome in ended.items():
            for future in self._waiting.get(job_id, ()):
                if not future.done():
                    future.set_result(outcome)
        self._add(news.transitions, ended)
        for job_id, told in news.progress.items():
            if (watched := self._watched.get(job_id)) is not None and not watched.final:
                watched.proceed(told)

    def _add(self, transitions: Iterable[Transition], ended: dict[UUID, Outcome]) -> None:
        for each in transitions:
            watched = self._watched.get(each.job_id)
            if watched is None or each.id <= watched.last:
                continue
            told: dict[str, Any] = {
                "job": each.job_id, "state": each.to_state, "from": each.from_state, "at": each.at,
                "attempt": each.attempt, "worker": each.worker, "error": each.error, "took_s": each.took_s,
                "final": each.to_state in FINAL,
            }  # fmt: skip
            if each.to_state in FINAL:
                if (outcome := ended.get(each.job_id)) is None:
                    continue  # the next tick has both
                told["result"] = outcome.result
            watched.step(each.id, told, final=told["final"])

    # The thread.

    def _run(self) -> None:
        try:
            self._listen_for_ever()
        finally:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._ended.set)

    def _listen_for_ever(self) -> None:
        away = False
        while not self._stopping.is_set():
            try:
                with watch.listening() as (connection, raw):
                    if away:
                        log.info("feed_listens_again")
                    away = False
                    self._listen(connection, raw)
            except _Over:
                return
            except (SQLAlchemyError, psycopg.Error, SettingsError) as error:
                if not away:
                    log.warning("feed_lost_postgres", reason=redact(str(error).split("\n")[0]))
                away = True
                self._stopping.wait(RECONNECT_S)
            except Exception:  # a fault of ours: without this thread nobody would hear of anything again
                log.exception("feed_failed")
                self._stopping.wait(RECONNECT_S)

    def _listen(self, connection: Connection, raw: "psycopg.Connection[Any]") -> None:
        checked_at = 0.0  # at first all: what was announced before nobody heard
        ticked_at = looked_at = 0.0
        ended = set[UUID]()  # and those who watch were not told
        while not self._stopping.is_set():
            heard = watch.heard(raw, SOON_S if ended else TICK_S)
            announced = {job_id for job_id in heard if job_id in self._waiting or job_id in self._watched}
            now = time.monotonic()
            check = now - checked_at > RECHECK_S
            tick = bool(self._watched) and now - ticked_at >= TICK_S * 0.8
            if not (announced or ended or check or tick):  # what workers do all day is mostly nobody's here
                continue
            waiting, watched = self._call(self._wanted)
            if check:
                checked_at, announced = now, announced | waiting
            ended = (ended | announced) & watched.keys()
            wanted = announced & waiting
            news = News()
            if tick or (ended and now - looked_at >= SOON_S):
                looked_at = now
                after = watched if tick else {job_id: watched[job_id] for job_id in ended}
                news.transitions = watch.transitions(connection, after)
                wanted |= {each.job_id for each in news.transitions if each.to_state in FINAL}
                ended = set()
            if tick:
                ticked_at = now
                news.progress = self._progress(connection, watched.keys())
            if wanted:
                news.outcomes = watch.outcomes(connection, wanted)
            if news.outcomes or news.transitions or news.progress:
                self._call(partial(self._deliver, news))

    def _wanted(self) -> tuple[set[UUID], dict[UUID, int]]:
        """The jobs that somebody waits for, and those that are watched with the transition that was told last."""
        return set(self._waiting), {job_id: each.last for job_id, each in self._watched.items()}

    def _progress(self, connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
        """How far those are that run, and what waits for its children."""
        self._ticks += 1
        told = {}
        for each in watch.standings(connection, job_ids):
            if each.suspended:
                if not self._ticks % CHILDREN_EVERY:
                    told[each.id] = _of_children(read.pulse(connection, each.id))
            elif each.state == STARTED and each.progress:
                told[each.id] = each.progress
        return told

    def _call(self, what: Callable[[], T]) -> T:
        """Run it on the event loop, and wait for its answer. Raises _Over when the feed is to stop."""
        answer: ThreadFuture[T] = ThreadFuture()

        def run() -> None:
            try:
                answer.set_result(what())
            except Exception as error:
                answer.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(run)
        except RuntimeError:  # the loop is closed
            raise _Over from None
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                return answer.result(timeout=TICK_S)
        raise _Over


class _Over(Exception):
    """Nobody wants to know any more."""


def _of_children(pulse: read.Pulse) -> dict[str, Any]:
    return {"done": pulse.done, "total": pulse.total, "message": pulse.note, "left_s": pulse.left_s}


def _outcome(job_id: UUID) -> Outcome | None:
    with autocommit() as connection:
        return next(iter(watch.outcomes(connection, [job_id])), None)


def _histories(job_ids: list[UUID]) -> list[History]:
    with autocommit() as connection:
        return watch.histories(connection, job_ids)
