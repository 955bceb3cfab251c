"""What the overview shows: live jobs by kind, what ended lately and when, and who ran it."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text

from db.read import Reader
from db.state import FAILURE, REVOKED, SUCCESS
from db.vitals import SILENT_S


@dataclass(slots=True)
class KindRow:
    """The jobs of a kind on a queue: live ones as they stand, final ones of the time that is looked at."""

    kind: str
    queue: str
    queued: int = 0  # whether due or not
    running: int = 0
    oldest_s: float | None = None  # for how long the first of the queued ones is due
    done: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(slots=True)
class Bin:
    """What ended in one step of time."""

    at: datetime  # when it begins
    done: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker that runs something, or ended something in the time that is looked at."""

    worker: str
    running: int
    ended: int  # attempts
    failed: int  # of these
    seen_s: float  # since it last renewed a lease, or ended an attempt
    silent: bool  # it runs something, and has not renewed the lease for a while

    @property
    def quiet(self) -> bool:
        """Whether it is idle or gone: the ledger does not know which."""
        return not self.running and self.seen_s > QUIET_S


@dataclass(frozen=True, slots=True)
class Board:
    """All of it."""

    kinds: list[KindRow] = field(default_factory=list)
    bins: list[Bin] = field(default_factory=list)  # of equal length, the last one not yet over
    workers: list[WorkerRow] = field(default_factory=list)

    @property
    def queued(self) -> int:
        return sum(each.queued for each in self.kinds)

    @property
    def running(self) -> int:
        return sum(each.running for each in self.kinds)

    @property
    def done(self) -> int:
        return sum(each.done for each in self.bins)

    @property
    def failed(self) -> int:
        return sum(each.failed for each in self.bins)


_FIELDS = {SUCCESS: "done", FAILURE: "failed", REVOKED: "cancelled"}

# Each branch repeats the predicate of the partial index that finds its rows, as in db.vitals.
_LIVE = text("""
    WITH live AS (
        SELECT kind, queue, run_at FROM job WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NOT NULL
        UNION ALL SELECT kind, queue, run_at FROM job
        WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND lane IS NULL
        UNION ALL SELECT kind, queue, run_at FROM job
        WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND lane IS NOT NULL
        UNION ALL SELECT kind, queue, NULL FROM job WHERE state = 'STARTED')
    SELECT kind, queue, count(run_at) AS queued, count(*) - count(run_at) AS running,
           CAST(extract(epoch FROM now() - min(run_at) FILTER (WHERE run_at <= now())) AS float8) AS oldest_s
    FROM live GROUP BY 1, 2""")

_STEPS = text("""
    SELECT to_timestamp(step * :step_s) FROM generate_series(
        CAST(floor(extract(epoch FROM now()) / :step_s) AS bigint) - :steps + 1,
        CAST(floor(extract(epoch FROM now()) / :step_s) AS bigint)) AS step""")

_ENDED = text("""
    SELECT to_timestamp(floor(extract(epoch FROM at) / :step_s) * :step_s), kind, queue, to_state, count(*)
    FROM job_event JOIN job ON job.id = job_id
    WHERE at >= :since AND to_state IN ('SUCCESS', 'FAILURE', 'REVOKED') GROUP BY 1, 2, 3, 4""")

_WORKERS = text("""
    SELECT worker, sum(running) AS running, sum(ended) AS ended, sum(failed) AS failed,
           CAST(greatest(0, extract(epoch FROM now() - max(at))) AS float8) AS seen_s
    FROM (SELECT worker, 1 AS running, 0 AS ended, 0 AS failed,
                 coalesce(lease_until - make_interval(secs => :lease_s), now()) AS at FROM job WHERE state = 'STARTED'
          UNION ALL SELECT worker, 0, 1, CAST(to_state IN ('RETRY', 'FAILURE') AS int), at FROM job_event
          WHERE at >= :since AND from_state = 'STARTED') AS seen
    WHERE worker IS NOT NULL GROUP BY 1 ORDER BY running DESC, seen_s LIMIT :most""")

WORKERS = 50
QUIET_S = 60.0


def board(on: Reader, step_s: int, steps: int, lease_s: float) -> Board:
    """How things stand, and what ended in so many steps until now. lease_s: of a whole lease, as workers renew it.

    Reads the history of that time: its cost grows with how much ended.
    """
    bins = {row[0]: Bin(row[0]) for row in on.execute(_STEPS, {"step_s": step_s, "steps": steps})}
    since = min(bins)
    rows: dict[tuple[str, str], KindRow] = {}
    for row in on.execute(_LIVE).mappings():
        rows[row["kind"], row["queue"]] = KindRow(**row)
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for at, kind, queue, state, count in on.execute(_ENDED, {"step_s": step_s, "since": since}):
        counts[kind, queue, _FIELDS[state]] += count
        if at in bins:
            setattr(bins[at], _FIELDS[state], getattr(bins[at], _FIELDS[state]) + count)
    for (kind, queue, name), count in counts.items():
        setattr(rows.setdefault((kind, queue), KindRow(kind, queue)), name, count)
    asked = {"since": since, "most": WORKERS, "lease_s": lease_s}
    workers = [
        WorkerRow(**row, silent=row["running"] > 0 and row["seen_s"] >= SILENT_S)
        for row in on.execute(_WORKERS, asked).mappings()
    ]
    return Board(sorted(rows.values(), key=lambda each: (each.kind, each.queue)), list(bins.values()), workers)
