"""Records the messages that this process drops, from a thread: its event loop never waits for Postgres.

A flood neither fills Postgres nor the memory: of so many a minute a row is written each, the others are counted, and
the table keeps the newest rows. While Postgres is away they wait.
"""

import atexit
import contextlib
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import structlog
from celery.exceptions import NotRegistered
from sqlalchemy.exc import OperationalError

from broker.backend import describe
from db import ledger
from db.dropped import Dropped, record, recorded
from db.engine import autocommit
from db.settings import redact

log = structlog.get_logger()

A_MINUTE = 1000  # rows
EXCERPT_CHARACTERS = 500
PAUSE_S, PAUSE_WITHOUT_POSTGRES_S = 1.0, 5.0
COUNTED_EVERY_S = 10.0


class Recorder:
    """What was dropped and is not recorded yet."""

    def __init__(self) -> None:
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._something = threading.Event()
        self._thread: threading.Thread | None = None
        self._kept: list[Dropped] = []
        self._undeclared: list[tuple[UUID, str, Dropped]] = []
        self._beyond: Counter[str] = Counter()
        self._counted_at = time.monotonic()
        self._minute, self._this_minute = 0.0, 0

    def drop(self, queue: str, reason: str, raw: bytes) -> None:
        """A message is dropped: record it. Neither waits nor raises."""
        with self._lock:
            if self._room(queue):
                self._kept.append(_dropped(queue, reason, raw))
        self._begin()

    def undeclared(self, queue: str, kind: str, job_id: str, raw: bytes) -> None:
        """A message is dropped because its kind is unknown here. If there is such a job, that counts as an attempt."""
        with self._lock:
            if self._room(queue):
                reason = f"no job {kind[:100]!r} is declared here, and none of this id is recorded"
                self._undeclared.append((UUID(job_id), kind, _dropped(queue, reason, raw)))
        self._begin()

    def write(self, *, everything: bool = False) -> None:
        """Record what there is. Raises OperationalError, and then keeps it for the next time."""
        with self._writing:
            with self._lock:
                taken = self._kept, self._undeclared, self._beyond
                self._kept, self._undeclared = [], []
                if everything or time.monotonic() - self._counted_at > COUNTED_EVERY_S:
                    self._beyond, self._counted_at = Counter(), time.monotonic()
                else:
                    taken = taken[0], taken[1], Counter()
                self._something.clear()
            try:
                _record(*taken)
            except OperationalError:
                with self._lock:
                    self._kept, self._undeclared = taken[0] + self._kept, taken[1] + self._undeclared
                    self._beyond += taken[2]
                raise
            finally:
                if self._kept or self._undeclared or self._beyond:
                    self._something.set()

    def _room(self, queue: str) -> bool:
        now = time.monotonic()
        if now - self._minute > 60:
            self._minute, self._this_minute = now, 0
        if self._this_minute >= A_MINUTE or len(self._kept) + len(self._undeclared) >= A_MINUTE:
            self._beyond[queue] += 1
            return False
        self._this_minute += 1
        return True

    def _begin(self) -> None:
        self._something.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dropped", daemon=True)
            self._thread.start()
            atexit.register(self._end)

    def _run(self) -> None:
        while True:
            self._something.wait()
            try:
                self.write()
            except OperationalError as error:
                log.warning("dropped_messages_not_recorded", reason=str(error).split("\n")[0])
                time.sleep(PAUSE_WITHOUT_POSTGRES_S)
            except Exception:
                log.exception("dropped_messages_lost")  # the thread must outlive any one of them
            time.sleep(PAUSE_S)

    def _end(self) -> None:
        if self._something.is_set():
            with contextlib.suppress(Exception):
                self.write(everything=True)


def _record(kept: list[Dropped], undeclared: list[tuple[UUID, str, Dropped]], beyond: "Counter[str]") -> None:
    now = datetime.now(UTC)
    counted = [Dropped(now, queue, f"{n:,} more, too many to record each", "", n) for queue, n in beyond.items()]
    with autocommit() as connection:
        known = recorded(connection, [(job_id, kind) for job_id, kind, _ in undeclared]) if undeclared else set()
        strangers = [message for job_id, _, message in undeclared if job_id not in known]
        record(connection, [*kept, *strangers, *counted])
        for job_id, kind, _ in undeclared:
            if job_id in known:
                message = f"no job {kind!r} is declared on the worker that received it: deploy its code there"
                ledger.refuse(connection, job_id, describe(NotRegistered(kind), message))
    if written := [*kept, *strangers, *counted]:
        count = len(kept) + len(strangers) + beyond.total()
        log.warning("messages_dropped", count=count, queue=written[0].queue, reason=written[0].reason)


def _dropped(queue: str, reason: str, raw: bytes) -> Dropped:
    """Of a message of any size and content, what a person can read on a line."""
    excerpt = redact(_line(raw[: 4 * EXCERPT_CHARACTERS].decode(errors="backslashreplace")))
    return Dropped(datetime.now(UTC), queue, _line(reason), excerpt[:EXCERPT_CHARACTERS])


def _line(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


_recorder = Recorder()
drop, undeclared = _recorder.drop, _recorder.undeclared
