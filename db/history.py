"""What has happened, added up from tables that only grow: each row is read about once, however often one looks."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, TextClause, text

Key = tuple[str | int | None, ...]
Sums = dict[Key, tuple[float, ...]]

CHUNK = 500_000  # rows added up in one statement: a second or two
OPEN = 1_000_000  # rows that a look reads itself, while they are not added up

BOUNDS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_WITHIN = [f"within_{place}" for place in range(len(BOUNDS_S))]

# What is added up of transitions, and by what.
SUMS = ("events", "timed", "seconds", *_WITHIN)
KEYS = "kind, queue, priority, from_state, to_state, cause"
OF_EVENTS = "count(*) AS events, count(took_s) AS timed, coalesce(sum(took_s), 0) AS seconds, " + ", ".join(
    f"count(*) FILTER (WHERE took_s <= {bound}) AS {name}" for name, bound in zip(_WITHIN, BOUNDS_S, strict=True)
)

# Ids are handed out before their transactions commit, so that a row may appear behind others that were read already.
# Those up to the last id of a look are complete once every transaction that ran then has ended.
_HORIZON = """
    SELECT coalesce(max(id), 0), CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint),
           CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)
    FROM {table}"""

# Those of jobs that are gone were added up when these were deleted (db.prune), under the last of their ids: whoever has
# read so far has counted them.
_TRANSITIONS = f"""
    SELECT {KEYS}, {", ".join(f"CAST(sum({name}) AS float8)" for name in SUMS)}
    FROM (SELECT {KEYS}, {OF_EVENTS} FROM job_event e JOIN job ON job.id = e.job_id
          WHERE e.id > :after AND e.id <= :upto GROUP BY {KEYS}
          UNION ALL SELECT {KEYS}, events, timed, seconds, {", ".join(f"within[{n + 1}]" for n in range(len(_WITHIN)))}
          FROM forgotten_events WHERE last_id > :after AND last_id <= :upto) AS parts
    GROUP BY {KEYS}"""

_DROPPED = """
    SELECT queue, sum(messages) FROM dropped_message WHERE id > :after AND id <= :upto GROUP BY 1"""

# What moved just before in the same process, for the same job: a model that comes in makes room for itself. Of the rows
# before :after only the last of a job that goes on is looked up.
_MOVES = """
    SELECT event, count(*), sum(seconds),
           count(*) FILTER (WHERE event IN ('load', 'restore') AND before IN ('offload', 'drop'))
    FROM (SELECT event, seconds, coalesce(lag(event) OVER same, (
              SELECT event FROM model_event AS earlier
              WHERE earlier.job_id = later.job_id AND earlier.process = later.process AND earlier.id < later.id
              ORDER BY earlier.id DESC LIMIT 1)) AS before
          FROM model_event AS later WHERE id > :after AND id <= :upto
          WINDOW same AS (PARTITION BY job_id, process ORDER BY id)) AS moved GROUP BY 1"""

JOINED = "Joined"  # the cause of a start: along with another job, in one call (migration 0010)


class Behind(Exception):
    """There is more to add up than one look reads."""


@dataclass
class Tally:
    """The sums of one table. One thread settles, any thread looks."""

    horizon: TextClause
    statement: TextClause
    columns: int  # of the key; the others are added up
    _settled: tuple[Sums, int] = field(default_factory=lambda: ({}, 0))  # the sums up to an id
    _pending: tuple[int, int] | None = None  # the id up to which to settle, once all transactions before one have ended

    @classmethod
    def of_transitions(cls) -> "Tally":
        """(kind, queue, priority, from_state, to_state, cause) to the count, and of the seconds that they took (waiting
        since due, or running): their number, their sum, and how many are within each of BOUNDS_S."""
        return cls(text(_HORIZON.format(table="job_event")), text(_TRANSITIONS), 6)

    @classmethod
    def of_dropped_messages(cls) -> "Tally":
        """(queue,) to the count."""
        return cls(text(_HORIZON.format(table="dropped_message")), text(_DROPPED), 1)

    @classmethod
    def of_model_moves(cls) -> "Tally":
        """(event,) of db.residency to the count, the seconds that they took, and how many were switches."""
        return cls(text(_HORIZON.format(table="model_event")), text(_MOVES), 1)

    def look(self, on: Connection) -> Sums:
        """The sums as the connection sees them. Raises Behind."""
        sums, after = self._settled
        last, _, _ = on.execute(self.horizon).one()
        if last < after:  # another history, such as a restored backup
            sums, after = {}, 0
        if last - after > OPEN:
            raise Behind(f"{last - after:,} rows of history are to be added up first")
        return _added(sums, self._read(on, after, last))

    def settle(self, engine: Engine) -> None:
        """Add up what was there when this was last called and is complete by now: no look reads it again."""
        with engine.connect() as connection:
            last, oldest_running, next_to_run = connection.execute(self.horizon).one()
        if last < self._settled[1]:
            self._settled, self._pending = ({}, 0), None
        if self._pending and self._pending[1] <= oldest_running:
            self._add_up(engine, self._pending[0])
            self._pending = None
        self._pending = self._pending or (last, next_to_run)

    def _add_up(self, engine: Engine, upto: int) -> None:
        while (after := self._settled[1]) < upto:
            end = min(after + CHUNK, upto)
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL work_mem = '64MB'"))  # hashes the jobs: to sort takes thrice as long
                self._settled = _added(self._settled[0], self._read(connection, after, end)), end

    def _read(self, on: Connection, after: int, upto: int) -> Sums:
        rows = on.execute(self.statement, {"after": after, "upto": upto})
        return {tuple(row[: self.columns]): tuple(row[self.columns :]) for row in rows}


def _added(one: Sums, other: Sums) -> Sums:
    sums = dict(one)
    for key, values in other.items():
        before = sums.get(key)
        sums[key] = values if before is None else tuple(a + b for a, b in zip(before, values, strict=True))
    return sums
