"""What Prometheus reads: a snapshot of the ledger as metrics."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from broker.queues import PRIORITIES, QUEUES
from broker.settings import settings
from db.history import BOUNDS_S, JOINED, Sums
from db.memory import Used
from db.recommend_stat import Reads
from db.residency import Event
from db.state import FAILURE, FINAL, RETRY, STARTED, WAITING
from db.vitals import Depth, Running

_PRIORITY_NAMES: dict[object, str] = {step: name for name, step in PRIORITIES.items()}
_LIVE = ("waiting", "held", "later", "suspended", "running")
_SPARED = ("GivenBack", "Suspended")  # causes that db/migrations/versions/0004_history.py names
_LOST = ("WorkerLost", "WorkerLostError", "TimeLimitExceeded")  # and types of errors to be alerted on
_ENDS = (*map(floatToGoString, BOUNDS_S), "+Inf")

Labels = tuple[str, ...]


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
    memory: list[Used]
    batches: Mapping[str, int]  # the most jobs that run together, of each kind that is declared with batch=


def families(found: Snapshot) -> Iterator[Metric]:
    """A snapshot as Prometheus reads it."""
    yield from _queues(found.depths)
    yield from _workers(found.running)
    if found.counted is not None:
        yield from _kinds(found.counted.transitions)
        yield _messages(found.counted.dropped)
        yield from _models(found.counted.moves)
    yield from _recommendations(found.reads)
    yield from _memory(found.memory)
    most: dict[Labels, float] = {(kind,): size for kind, size in found.batches.items()}
    yield _gauge("batch_limit", "The most jobs of a kind that run in one call of its body.", ("kind",), most)


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
    submitted, attempts, calls, retries, leases_lost = (_zeros(kinds) for _ in range(5))
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
        if after == STARTED and cause != JOINED:
            calls[key] += count
        if after == RETRY:
            retries[key] += count
        if cause == "WorkerLost":
            leases_lost[key] += count
        if cause in _SPARED:
            spared[*key, str(cause)] += count
        elif cause not in (None, JOINED):
            failed[*key, str(cause)] += count
        if after == STARTED:
            _add(waits, (*key, str(queue), _priority(step)), seconds)
        if before == STARTED:
            _add(runs, (*key, str(queue)), seconds)
    one = ("kind",)
    yield _counter("jobs_submitted", "Jobs recorded.", one, submitted)
    yield _counter("jobs_finished", "Jobs that became final.", (*one, "state"), finished)
    yield _counter("attempts", "Starts, and messages that no worker knew what to do with.", one, attempts)
    yield _counter("calls", "Calls of the kind's body: one for all the jobs of a batch.", one, calls)
    yield _counter("attempts_spared", "Attempts that were not charged.", (*one, "cause"), spared)
    yield _counter("attempts_failed", "Attempts that failed, by the type of the error.", (*one, "cause"), failed)
    yield _counter("retries", "Failed attempts after which the job is tried again.", one, retries)
    yield _counter("leases_lost", "Jobs that a relay rescued, their worker being gone.", one, leases_lost)
    yield _histogram("job_wait", "From being due to being started.", (*one, "queue", "priority"), waits)
    yield _histogram("job_run", "From being started to the attempt's end.", (*one, "queue"), runs)


def _zeros(*values: Sequence[str]) -> Counter[Labels]:
    return Counter(dict.fromkeys(product(*values), 0))


def _messages(dropped: Sums) -> Metric:
    counts = _zeros(QUEUES)
    counts.update({(str(queue),): int(count) for (queue,), (count,) in dropped.items()})
    return _counter("messages_dropped", "Messages that nobody could understand.", ("queue",), counts)


def _models(moves: Sums) -> Iterator[Metric]:
    """Not by model: each version of each would be a series for ever."""
    none: dict[Labels, tuple[float, ...]] = {(event,): (0, 0.0, 0) for event in get_args(Event)}
    found = none | {(str(event),): values for (event,), values in moves.items()}
    counts, seconds = ({event: values[n] for event, values in found.items()} for n in range(2))
    one = ("event",)
    yield _counter("model_moves", "Models loaded, restored from, offloaded to the host's memory, dropped.", one, counts)
    yield _counter("model_moves_seconds", "The time that this took.", one, seconds)
    switches: dict[Labels, float] = {(): sum(values[2] for values in found.values())}
    yield _counter("model_switches", "Models that came in after another had to go for them.", (), switches)


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


def _memory(found: Sequence[Used]) -> Iterator[Metric]:
    """Two workers of one name on two machines are one series: the fuller one."""
    fuller: dict[Labels, Used] = {}
    for each in found:
        key = (each.worker.partition("#")[0], each.device)
        if key not in fuller or each.share > fuller[key].share:
            fuller[key] = each
    for name, said, value in (
        ("worker_memory_bytes", "In use: of a GPU by all processes, of the host by the worker's own.", "used_bytes"),
        ("worker_memory_limit_bytes", "What there is for them.", "total_bytes"),
    ):
        values: dict[Labels, float] = {key: getattr(each, value) for key, each in fuller.items()}
        yield _gauge(name, said, ("worker", "device"), values)


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
