"""Prometheus metrics, asked of the ledger when they are scraped.

Redis is not asked: a queue whose messages are all handed out has length 0 there. All numbers of a scrape are of one
instant. When Postgres does not answer in time, `gristmill_up` is 0 and there are no others.
"""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from broker.job import declared
from broker.series import Counted, Snapshot, families
from broker.settings import settings
from db import memory, recommend_stat, vitals
from db.engine import engine
from db.history import Behind, Tally
from db.settings import SettingsError, redact

log = structlog.get_logger()

ANSWER_S = 8.0  # Prometheus gives up after 10 by default
STATEMENT_S = 5.0
SETTLE_S = 5.0  # twice this long each row is read by every scrape
_READ_DAYS = 1  # yesterday and today: reads are counted by day, and in the morning a day is young


class Away(Exception):
    """The ledger did not answer."""


class LedgerReader:
    """Reads snapshots, one at a time: scrapes that come together share one, and none waits for a dead connection."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._lock = threading.Lock()
        self._reading: Future[tuple[float, Snapshot]] | None = None
        self._transitions, self._dropped = Tally.of_transitions(), Tally.of_dropped_messages()
        self._moves = Tally.of_model_moves()
        self._batches = {kind: job.batch_size for kind, job in declared().items() if job.batch_size}

    def snapshot(self) -> Snapshot:
        """The ledger now, within ANSWER_S. Raises Away."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = self._thread.submit(self._read)
            reading = self._reading
        try:
            began, found = reading.result(ANSWER_S)
        except TimeoutError:
            raise Away(f"no answer within {ANSWER_S:g} s") from None
        except (SQLAlchemyError, SettingsError) as error:
            raise Away(_reason(error)) from None
        if time.monotonic() - began > ANSWER_S:  # one that others have waited for in vain
            raise Away(f"no answer within {ANSWER_S:g} s")
        return found

    def settle(self) -> None:
        """Add up the history that no scrape needs to read again."""
        self._dropped.settle(engine())
        self._moves.settle(engine())
        self._transitions.settle(engine())

    def keep_settled(self, stop: threading.Event) -> None:
        """The same every few seconds until `stop`, in a thread that does nothing else."""
        while not stop.is_set():
            try:
                self.settle()
            except (SQLAlchemyError, SettingsError):
                pass  # scrapes tell
            stop.wait(SETTLE_S * random.uniform(0.8, 1.2))

    def look(self, on: Connection) -> Snapshot:
        """The ledger as the connection's transaction sees it, which must keep one snapshot (REPEATABLE READ)."""
        depths = vitals.depths(on, settings().owner_window, by_priority=True)
        running = vitals.running(on)
        try:
            counted = Counted(self._transitions.look(on), self._dropped.look(on), self._moves.look(on))
        except Behind as behind:
            log.info("counters_left_out", reason=str(behind))
            counted = None
        return Snapshot(depths, running, counted, recommend_stat.reads(on, _READ_DAYS), memory.used(on), self._batches)

    def _read(self) -> tuple[float, Snapshot]:
        began = time.monotonic()
        with engine().connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_S:g}s'"))
            return began, self.look(connection)


class LedgerCollector(Collector):
    """What prometheus-client asks at each scrape."""

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        self._was_up: bool | None = None

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("gristmill_up", "Whether the ledger answered this scrape; if not, this is all there is.")
        try:
            found = self._reader.snapshot()
        except Away as error:
            self._tell(False, str(error))
            up.add_metric([], 0)
            yield up
            return
        self._tell(True, "")
        up.add_metric([], 1)
        yield up
        yield from families(found)

    def _tell(self, up: bool, reason: str) -> None:
        if up != self._was_up and (not up or self._was_up is not None):
            log.info("ledger_answers") if up else log.warning("ledger_away", reason=reason)
        self._was_up = up


def _reason(error: Exception) -> str:
    return redact(str(error).split("\n")[0])
