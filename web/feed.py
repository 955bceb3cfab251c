"""What this process waits for: one thread listens to Postgres on one connection, and all who wait hear of it.

A final job is announced by Postgres at once. What else happens to the jobs that somebody watches (transitions,
progress) is asked for in one statement every TICK_S, however many watch: a notification on every transition would have
every worker's commit take its turn at one lock of Postgres. A connection that is lost is made again; what came
meanwhile is asked for.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future as ThreadFuture
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import structlog
from pydantic_core import to_json
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from db import read, watch
from db.engine import autocommit
from db.listen import RECHECK_S, RECONNECT_S
from db.settings import SettingsError, redact
from db.state import FINAL
from db.watch import Outcome, Standing, Transition

log = structlog.get_logger()

TICK_S = 0.25
CHILDREN_EVERY = 4  # ticks: how far a fan-out is takes a statement for each that waits
KEEP_ALIVE_S = 15.0  # proxies close what is silent for longer

Frame = bytes


@dataclass
class Watched:
    """A job with somebody at its stream: what has happened to it, ready to be sent."""

    transitions: list[tuple[int, Frame]] = field(default_factory=list)
    progress: Frame | None = None
    final: bool = False
    listeners: int = 0
    news: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def last(self) -> int:
        """The number of the last transition."""
        return self.transitions[-1][0] if self.transitions else 0

    def tell(self) -> None:
        """Wake all who listen."""
        if not self.news.done():
            self.news.set_result(None)
        self.news = asyncio.get_running_loop().create_future()


@dataclass(frozen=True)
class News:
    """What one look brought."""

    outcomes: list[Outcome]
    transitions: list[Transition]
    standings: list[Standing]
    children: dict[UUID, read.Pulse]


class Feed:
    """Started and stopped with the app; its methods are called on the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, list[asyncio.Future[Outcome]]] = {}
        self._watched: dict[UUID, Watched] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen_for_ever, name="feed", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticks = 0
        self._shown: dict[UUID, Any] = {}  # the progress that was told last, by the thread

    def start(self) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the streams and the thread."""
        self._stopping.set()
        for each in self._watched.values():
            each.tell()
        await run_in_threadpool(self._thread.join, 5.0)

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
            done, _ = await asyncio.wait([future], timeout=timeout_s)
            return future.result() if done else None

    async def open(self, job_id: UUID) -> Watched:
        """Begin to watch; `close` must follow. Raises NotFound for a job that is not there."""
        found = self._watched.get(job_id)
        if found is None:
            transitions, outcomes = await run_in_threadpool(_history, job_id)
            if not transitions:
                raise read.NotFound(f"no job has the id '{job_id}'")
            found = self._watched.setdefault(job_id, Watched())
            self._add(transitions, {each.id: each for each in outcomes})
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
        sent, shown = after, None
        try:
            while not self._stopping.is_set():
                news = watched.news
                for number, frame in watched.transitions:
                    if number > sent:
                        sent = number
                        yield frame
                if watched.final:
                    return
                if (progress := watched.progress) is not None and progress is not shown:
                    shown = progress
                    yield progress
                if watched.news is news:
                    done, _ = await asyncio.wait([news], timeout=KEEP_ALIVE_S)
                    if not done:
                        yield b": still here\n\n"
        finally:
            self.close(job_id)

    def _deliver(self, news: News) -> None:
        ended = {each.id: each for each in news.outcomes}
        for job_id, outcome in ended.items():
            for future in self._waiting.get(job_id, ()):
                if not future.done():
                    future.set_result(outcome)
        self._add(news.transitions, ended)
        for each in news.standings:
            watched, pulse = self._watched.get(each.id), news.children.get(each.id)
            if watched is None or watched.final or not (each.progress or pulse):
                continue
            shown = (each.progress or {}) if pulse is None else {
                "done": pulse.done, "total": pulse.total, "message": pulse.note, "left_s": pulse.left_s,
            }  # fmt: skip
            watched.progress = _frame("progress", None, shown)
            watched.tell()

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
                watched.final = True
            watched.transitions.append((each.id, _frame("state", each.id, told)))
            watched.progress = None
            watched.tell()

    # The thread.

    def _listen_for_ever(self) -> None:
        away = False
        while not self._stopping.is_set():
            try:
                with watch.listening() as (connection, raw):
                    if away:
                        log.info("feed_listens_again")
                    away = False
                    self._listen(connection, raw)
            except (SQLAlchemyError, psycopg.Error, SettingsError) as error:
                if not away:
                    log.warning("feed_lost_postgres", reason=redact(str(error).split("\n")[0]))
                away = True
                self._stopping.wait(RECONNECT_S)

    def _listen(self, connection: Connection, raw: "psycopg.Connection[Any]") -> None:
        checked_at = 0.0  # at first all: what was announced before nobody heard
        ticked_at = 0.0
        while not self._stopping.is_set():
            announced = watch.heard(raw, TICK_S)
            now = time.monotonic()
            waiting, watched = self._call(lambda: (set(self._waiting), {k: w.last for k, w in self._watched.items()}))
            if now - checked_at > RECHECK_S:
                checked_at, announced = now, waiting
            wanted = announced & waiting
            look = bool(watched) and (now - ticked_at >= TICK_S * 0.8 or bool(announced & watched.keys()))
            transitions: list[Transition] = []
            standings: list[Standing] = []
            children: dict[UUID, read.Pulse] = {}
            if look:
                ticked_at = now
                transitions = watch.transitions(connection, watched)
                wanted |= {each.job_id for each in transitions if each.to_state in FINAL}
                standings, children = self._progress(connection, watched.keys())
            outcomes = watch.outcomes(connection, wanted) if wanted else []
            if outcomes or transitions or standings:
                news = News(outcomes, transitions, standings, children)
                self._call(lambda news=news: self._deliver(news))

    def _progress(
        self, connection: Connection, job_ids: Iterable[UUID]
    ) -> tuple[list[Standing], dict[UUID, read.Pulse]]:
        """Of the jobs that have news to tell."""
        ids = list(job_ids)
        self._ticks += 1
        found, children = watch.standings(connection, ids), dict[UUID, read.Pulse]()
        changed = []
        for each in found:
            told: Any = each.progress
            if each.suspended:
                if self._ticks % CHILDREN_EVERY:
                    continue
                told = children[each.id] = read.pulse(connection, each.id)
            if told and self._shown.get(each.id) != told:
                changed.append(each)
            self._shown[each.id] = told
        self._shown = {job_id: self._shown[job_id] for job_id in ids if job_id in self._shown}
        return changed, children

    def _call(self, what: Any) -> Any:
        """Run it on the event loop, and wait for its answer."""
        answer: ThreadFuture[Any] = ThreadFuture()

        def run() -> None:
            try:
                answer.set_result(what())
            except Exception as error:
                answer.set_exception(error)

        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(run)
            return answer.result(timeout=60)
        except RuntimeError:  # the loop is closed
            self._stopping.set()
            return (set(), {})


def _frame(event: str, number: int | None, data: Any) -> Frame:
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + to_json(data, inf_nan_mode="null") + b"\n\n"


def _outcome(job_id: UUID) -> Outcome | None:
    with autocommit() as connection:
        return next(iter(watch.outcomes(connection, [job_id])), None)


def _history(job_id: UUID) -> tuple[list[Transition], list[Outcome]]:
    with autocommit() as connection:
        found = watch.transitions(connection, {job_id: 0})
        return found, watch.outcomes(connection, [job_id])
