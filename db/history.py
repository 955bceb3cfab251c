"""What has happened, added up from tables that only grow: each row is read about once, however often one looks."""

import time
from dataclasses import dataclass, field

from sqlalchemy import Connection, TextClause, text

Key = tuple[str | int | None, ...]
Sums = dict[Key, tuple[int, float]]  # how many rows, and the seconds that they name

CHUNK = 200_000  # rows added up in one statement, about half a second
OPEN = 1_000_000  # rows that are read anew with every look while a transaction stays open for long

# Ids are handed out before their transactions commit, so that a row may appear behind others that were read already.
# Those up to the last id of a look are complete once every transaction that ran then has ended.
_HORIZON = """
    SELECT coalesce(max(id), 0), CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint),
           CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)
    FROM {table}"""

BOUNDS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_TRANSITIONS = f"""
    SELECT kind, queue, priority, from_state, to_state, cause,
           width_bucket(took_s, CAST(ARRAY{list(BOUNDS_S)} AS float8[])), count(*), coalesce(sum(took_s), 0)
    FROM job_event e JOIN job ON job.id = e.job_id
    WHERE e.id > :after AND e.id <= :upto GROUP BY 1, 2, 3, 4, 5, 6, 7"""

_DROPPED = """
    SELECT queue, count(*), 0 FROM dropped_message WHERE id > :after AND id <= :upto GROUP BY 1"""


class TooMuch(Exception):
    """There is more to add up than the time allows: the next look goes on from there."""


@dataclass
class Tally:
    """Adds up one table, for one reader at a time."""

    horizon: TextClause
    statement: TextClause
    _sums: Sums = field(default_factory=dict)  # of the rows up to _after, which are not read again
    _after: int = 0
    _pending: tuple[int, int] | None = None  # an id, and the transaction before which all must end for it to be _after

    @classmethod
    def of_transitions(cls) -> "Tally":
        """By (kind, queue, priority, from_state, to_state, cause, place in BOUNDS_S of the seconds it took)."""
        return cls(text(_HORIZON.format(table="job_event")), text(_TRANSITIONS))

    @classmethod
    def of_dropped_messages(cls) -> "Tally":
        """By (queue,)."""
        return cls(text(_HORIZON.format(table="dropped_message")), text(_DROPPED))

    def look(self, on: Connection, deadline: float) -> Sums:
        """The sums as the connection's transaction sees them, which must keep one snapshot (REPEATABLE READ).

        deadline: of time.monotonic(). Raises TooMuch, and has then come nearer.
        """
        last, oldest_running, next_to_run = on.execute(self.horizon).one()
        if last < self._after:  # another history, such as a restored backup
            self._sums, self._after, self._pending = {}, 0, None
        if self._pending and self._pending[1] <= oldest_running:
            self._complete(on, self._pending[0], deadline)
            self._pending = None
        self._pending = self._pending or (last, next_to_run)
        if last - self._after > OPEN:
            raise TooMuch(f"{last - self._after:,} rows of history are to be added up first")
        return _added(self._sums, self._read(on, self._after, last))

    def _complete(self, on: Connection, upto: int, deadline: float) -> None:
        while self._after < upto:
            if time.monotonic() > deadline:
                raise TooMuch(f"{upto - self._after:,} rows of history are still to be added up")
            end = min(self._after + CHUNK, upto)
            self._sums, self._after = _added(self._sums, self._read(on, self._after, end)), end

    def _read(self, on: Connection, after: int, upto: int) -> Sums:
        rows = on.execute(self.statement, {"after": after, "upto": upto})
        return {tuple(key): (count, float(seconds)) for *key, count, seconds in rows}


def _added(one: Sums, other: Sums) -> Sums:
    sums = dict(one)
    for key, (count, seconds) in other.items():
        before = sums.get(key, (0, 0.0))
        sums[key] = (before[0] + count, before[1] + seconds)
    return sums
