"""Prometheus metrics, asked of the ledger when they are scraped: `gristmill metrics` serves them.

Redis is not asked: a queue whose messages are all handed out has length 0 there. All numbers of a scrape are of one
instant. When Postgres does not answer in time, `gristmill_up` is 0 and there are no others.
"""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import NoReturn, get_args

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from broker.queues import PRIORITIES, QUEUES
from broker.settings import settings as broker_settings
from db import recommend, vitals
from db.engine import engine
from db.history import BOUNDS_S, Behind, Sums, Tally
from db.recommend import Reads
from db.residency import Event
from db.settings import SettingsError, redact
from db.state import FAILURE, FINAL, RETRY, STARTED, WAITING
from db.vitals import Depth, Running
from workers.process import announce, free_port
from workers.settings import settings

log = structlog.get_logger()

PORT = 9464
ANSWER_S = 8.0  # Prometheus gives up after 10 by default
STATEMENT_S = 5.0
SETTLE_S = 5.0  # twice this long each row is read by every scrape
_READ_DAYS = 1  # yesterday and today: reads are counted by day, and in the morning a day is young

_PRIORITY_NAMES: dict[object, str] = {step: name for name, step in PRIORITIES.items()}
_LIVE = ("waiting", "held", "later", "suspended", "running")
_SPARED = ("GivenBack", "Suspended")  # causes that db/migrations/versions/0004_history.py names
_LOST = ("WorkerLost", "WorkerLostError", "TimeLimitExceeded")  # and types of errors to be alerted on
_ENDS = (*map(floatToGoString, BOUNDS_S), "+Inf")

Labels = tuple[str, ...]


class Away(Exception):
    """The ledger did not answer."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What has happened: see db.history."""

    transitions: Sums
    dropped: Sums
    moves: Sums


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the ledger said at one instant."""

    depths: list[Depth]
    running: list[Running]
    counted: Counted | None  # None at first, until a long history is added up
    reads: Reads  # of cached recommendations, as they were counted up to the last flush


class LedgerReader:
    """Reads snapshots, one at a time: scrapes that come together share one, and none waits for a dead connection."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._lock = threading.Lock()
        self._reading: Future[tuple[float, Snapshot]] | None = None
        self._transitions, self._dropped = Tally.of_transitions(), Tally.of_dropped_messages()
        self._moves = Tally.of_model_moves()

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

    def look(self, on: Connection) -> Snapshot:
        """The ledger as the connection's transaction sees it, which must keep one snapshot (REPEATABLE READ)."""
        depths = vitals.depths(on, broker_settings().owner_window, by_priority=True)
        running = vitals.running(on)
        try:
            counted = Counted(self._transitions.look(on), self._dropped.look(on), self._moves.look(on))
        except Behind as behind:
            log.info("counters_left_out", reason=str(behind))
            counted = None
        return Snapshot(depths, running, counted, recommend.reads(on, _READ_DAYS))

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


def serve(host: str, port: int) -> None:
    """Serve /metrics until a signal, on the first free port from this one on; the address is kept for doctor."""
    registry = CollectorRegistry()
    reader = LedgerReader()
    registry.register(LedgerCollector(reader))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # at once, whatever a scrape waits for
    free = free_port(port, host)
    start_http_server(free, host, registry)
    announce("metrics", f"http://{f'[{host}]' if ':' in host else host}:{free}/metrics")
    _settle_for_ever(reader)


def _settle_for_ever(reader: LedgerReader) -> NoReturn:
    while True:
        try:
            reader.settle()
        except (SQLAlchemyError, SettingsError):
            pass  # scrapes tell
        time.sleep(SETTLE_S * random.uniform(0.8, 1.2))


def families(found: Snapshot) -> Iterator[Metric]:
    """A snapshot as Prometheus reads it."""
    yield from _queues(found.depths)
    yield from _workers(found.running)
    if found.counted is not None:
        yield from _kinds(found.counted.transitions)
        yield _messages(found.counted.dropped)
        yield from _models(found.counted.moves)
    yield from _recommendations(found.reads)


# Series that may rise are there from the beginning, with 0: of one that comes with its first event nobody sees it rise.


def _queues(found: Sequence[Depth]) -> Iterator[Metric]:
    by_place = {(each.queue, each.priority): each for each in found}
    places = sorted({*by_place, *((queue, step) for queue in QUEUES for step in PRIORITIES.values())})
    depths = {(queue, _priority(step)): by_place.get((queue, step), Depth(queue, step)) for queue, step in places}
    labels = ("queue", "priority")
    yield _gauge(
        "queue_jobs",
        "Live jobs. waiting: due; held: due, but enough others of its owner or batch are ahead; later: due later; "
        "suspended: waits for its children; running.",
        (*labels, "state"),
        {(*key, state): getattr(each, state) for key, each in depths.items() for state in _LIVE},
    )
    yield _gauge(
        "queue_oldest_age_seconds",
        "For how long the first of the due jobs has been due.",
        labels,
        {key: each.oldest_s or 0 for key, each in depths.items()},
    )
    yield _gauge(
        "unsent_jobs",
        "Due jobs whose message a relay is yet to send.",
        labels,
        {key: each.unsent for key, each in depths.items()},
    )
    yield _gauge(
        "unsent_oldest_age_seconds",
        "For how long the first of the unsent jobs has been due.",
        labels,
        {key: each.unsent_s or 0 for key, each in depths.items()},
    )


def _workers(found: Sequence[Running]) -> Iterator[Metric]:
    held: dict[str, Running] = {queue: Running(queue, 0, 0, None, 0, None) for queue in QUEUES} | {
        each.queue: each for each in found
    }
    for name, said, value in (
        ("busy_workers", "Workers that run a job of the queue and renew its lease.", "workers"),
        ("overdue_leases", "Running jobs whose lease has run out and that a relay is yet to take back.", "overdue"),
        ("overdue_leases_oldest_age_seconds", "Since when the first of these leases has run out.", "overdue_s"),
        ("cancelling_jobs", "Running jobs that were asked to stop.", "cancelling"),
        ("cancelling_oldest_age_seconds", "Since when the first of them was asked.", "cancelling_s"),
    ):
        values: dict[Labels, float] = {(queue,): getattr(each, value) or 0 for queue, each in held.items()}
        yield _gauge(name, said, ("queue",), values)


def _kinds(transitions: Sums) -> Iterator[Metric]:
    """By kind, counted from the history of the jobs that are kept."""
    kinds = sorted({str(key[0]) for key in transitions})
    submitted, attempts, retries, leases_lost = (_zeros(kinds) for _ in range(4))
    finished, spared, failed = _zeros(kinds, FINAL), _zeros(kinds, _SPARED), _zeros(kinds, _LOST)
    waits: dict[Labels, list[float]] = {}
    runs: dict[Labels, list[float]] = {}
    for (kind, queue, step, before, after, cause), (number, *seconds) in transitions.items():
        key, count = (str(kind),), int(number)
        if before is None:
            submitted[key] += count
        if after in FINAL:
            finished[*key, str(after)] += count
        if after == STARTED or (before in WAITING and after in (RETRY, FAILURE)):
            attempts[key] += count
        if after == RETRY:
            retries[key] += count
        if cause == "WorkerLost":
            leases_lost[key] += count
        if cause in _SPARED:
            spared[*key, str(cause)] += count
        elif cause is not None:
            failed[*key, str(cause)] += count
        if after == STARTED:
            _add(waits, (*key, str(queue), _priority(step)), seconds)
        if before == STARTED:
            _add(runs, key, seconds)
    one = ("kind",)
    yield _counter("jobs_submitted", "Jobs recorded.", one, submitted)
    yield _counter("jobs_finished", "Jobs that became final.", (*one, "state"), finished)
    yield _counter("attempts", "Starts, and messages that no worker knew what to do with.", one, attempts)
    yield _counter("attempts_spared", "Attempts that were not charged.", (*one, "cause"), spared)
    yield _counter("attempts_failed", "Attempts that failed, by the type of the error.", (*one, "cause"), failed)
    yield _counter("retries", "Failed attempts after which the job is tried again.", one, retries)
    yield _counter("leases_lost", "Jobs that a relay rescued, their worker being gone.", one, leases_lost)
    yield _histogram("job_wait", "From being due to being started.", (*one, "queue", "priority"), waits)
    yield _histogram("job_run", "From being started to the attempt's end.", one, runs)


def _zeros(*values: Sequence[str]) -> Counter[Labels]:
    return Counter(dict.fromkeys(product(*values), 0))


def _messages(dropped: Sums) -> Metric:
    counts = _zeros(QUEUES)
    counts.update({(str(queue),): int(count) for (queue,), (count,) in dropped.items()})
    return _counter("messages_dropped", "Messages that nobody could understand.", ("queue",), counts)


def _models(moves: Sums) -> Iterator[Metric]:
    """Not by model: each version of each would be a series for ever."""
    none: dict[Labels, tuple[float, ...]] = {(event,): (0, 0.0) for event in get_args(Event)}
    found = none | {(str(event),): values for (event,), values in moves.items()}
    counts, seconds = ({event: values[n] for event, values in found.items()} for n in range(2))
    one = ("event",)
    yield _counter("model_moves", "Models loaded, restored from, offloaded to the host's memory, dropped.", one, counts)
    yield _counter("model_moves_seconds", "The time that this took.", one, seconds)


def _recommendations(found: Reads) -> Iterator[Metric]:
    none: Labels = ()
    yield _counter("recommendation_cache_hits", "Reads that a fresh list answered.", (), {none: found.hits})
    yield _counter("recommendation_cache_misses", "Reads that none answered.", (), {none: found.misses})
    recent, least = found.recent_hits + found.recent_misses, settings()
    rate = found.recent_hits / recent if recent else 1.0
    yield _gauge("recommendation_hit_rate", "Of yesterday's and today's reads; 1 of none.", (), {none: rate})
    low = recent >= least.hit_rate_reads and rate < least.hit_rate_floor
    yield _gauge(
        "recommendation_hit_rate_low",
        "1 if that is below GRISTMILL_HIT_RATE_FLOOR, of enough reads to tell (GRISTMILL_HIT_RATE_READS).",
        (),
        {none: int(low)},
    )


def _add(to: dict[Labels, list[float]], key: Labels, values: list[float]) -> None:
    to[key] = [a + b for a, b in zip(to[key], values, strict=True)] if key in to else values


def _priority(step: object) -> str:
    return _PRIORITY_NAMES.get(step, str(step))


def _gauge(name: str, said: str, labels: Sequence[str], values: Mapping[Labels, float]) -> Metric:
    family = GaugeMetricFamily(f"gristmill_{name}", said, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, said: str, labels: Sequence[str], values: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(f"gristmill_{name}", said, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, said: str, labels: Sequence[str], values: Mapping[Labels, list[float]]) -> Metric:
    """values: of the seconds of each series their number, their sum, and how many are within each of BOUNDS_S."""
    family = HistogramMetricFamily(f"gristmill_{name}_seconds", said, labels=labels)
    for key, (number, total, *within) in values.items():
        family.add_metric(key, list(zip(_ENDS, (*within, number), strict=True)), total)
    return family


def _reason(error: Exception) -> str:
    return redact(str(error).split("\n")[0])
