"""What became of every submission of a chaos run, as Jepsen's total-queue checker counts it.

Each submission carries a serial number. A run of its job writes one row when it begins, outside any fence, and one with
its effect. The checker compares what was acknowledged with what took effect and with the final states.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

# Append-only and without a constraint that could hide a second row. Created by the driver: no part of the schema.
TABLES = """
DROP TABLE IF EXISTS chaos_run, chaos_effect;
CREATE TABLE chaos_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    serial integer NOT NULL,
    job_id uuid NOT NULL,
    attempt integer,  -- NULL where the system does not count them
    worker varchar NOT NULL,
    pid integer NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE chaos_effect (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    serial integer NOT NULL,
    run bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
BEGIN = """
    INSERT INTO chaos_run (serial, job_id, attempt, worker, pid)
    VALUES (%(serial)s, %(job_id)s, %(attempt)s, %(worker)s, %(pid)s) RETURNING id"""
EFFECT = "INSERT INTO chaos_effect (serial, run) VALUES (%(serial)s, %(run)s)"

FINAL = {"SUCCESS", "FAILURE", "REVOKED"}


@dataclass(frozen=True, slots=True)
class History:
    """Plain data. A serial number occurs in `runs` and `effects` as often as it ran and took effect."""

    attempted: Iterable[int]  # submission was called
    acknowledged: Iterable[int]  # and returned
    runs: Iterable[int]
    effects: Iterable[int]
    states: Iterable[tuple[int, str]]  # of every job that the system knows


@dataclass(frozen=True, slots=True)
class Verdict:
    """The serial numbers to which each thing happened; `str()` is a table of counts and fractions."""

    attempted: frozenset[int]
    acknowledged: frozenset[int]
    ok: frozenset[int]  # took effect, and was submitted
    lost: frozenset[int]  # acknowledged, and never took effect
    recovered: frozenset[int]  # took effect although its submission was not acknowledged
    unexpected: frozenset[int]  # took effect, and nobody submitted it
    duplicated: frozenset[int]  # took effect more than once
    runs_doubled: frozenset[int]  # began more than once: allowed, and to be reported
    unsettled: frozenset[int]  # acknowledged or known to the system, and not in exactly one final state
    untrue: frozenset[int]  # SUCCESS without an effect, or an effect and another final state

    @property
    def clean(self) -> bool:
        """Whether the system kept its word."""
        return not (self.lost or self.unexpected or self.duplicated or self.unsettled or self.untrue)

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {name: len(getattr(self, name)) for name in self.__slots__}

    def __str__(self) -> str:
        total = max(1, len(self.attempted))
        lines = []
        for name, count in self.counts().items():
            # The numbers themselves are what a diagnosis starts from; what is as it should be needs none.
            which = () if name in ("attempted", "acknowledged", "ok") else sorted(getattr(self, name))[:10]
            lines.append(f"{name:14}{count:8}  {count / total:8.5f}  {' '.join(map(str, which))}".rstrip())
        return "\n".join(lines)


def check(history: History) -> Verdict:
    """Judge a history."""
    attempted, acknowledged = frozenset(history.attempted), frozenset(history.acknowledged)
    runs, effects = Counter(history.runs), Counter(history.effects)
    states: dict[int, list[str]] = {}
    for serial, state in history.states:
        states.setdefault(serial, []).append(state)
    took_effect = frozenset(effects)
    succeeded = frozenset(serial for serial, found in states.items() if "SUCCESS" in found)
    ended_otherwise = frozenset(serial for serial, found in states.items() if FINAL.intersection(found) - {"SUCCESS"})
    return Verdict(
        attempted=attempted,
        acknowledged=acknowledged,
        ok=took_effect & attempted,
        lost=acknowledged - took_effect,
        recovered=(took_effect & attempted) - acknowledged,
        unexpected=took_effect - attempted,
        duplicated=_more_than_once(effects),
        runs_doubled=_more_than_once(runs),
        unsettled=frozenset(each for each in acknowledged | set(states) if not _one_final(states.get(each, []))),
        untrue=(succeeded - took_effect) | (ended_otherwise & took_effect),
    )


def _more_than_once(counted: Mapping[int, int]) -> frozenset[int]:
    return frozenset(serial for serial, count in counted.items() if count > 1)


def _one_final(states: list[str]) -> bool:
    return len(states) == 1 and states[0] in FINAL


def here() -> dict[str, Any]:
    """Which process a run is in, for BEGIN; the storm names its workers."""
    return {"worker": os.environ["WORKER"], "pid": os.getpid()}


def create(on: "psycopg.Connection[Any]") -> None:
    """Empty tables."""
    on.execute(TABLES)


def read(
    on: "psycopg.Connection[Any]",
    attempted: Iterable[int],
    acknowledged: Iterable[int],
    states: Iterable[tuple[int, str]],
) -> History:
    """The history of a run: what its submitter and the system say, and what the tables hold."""
    runs = [row[0] for row in on.execute("SELECT serial FROM chaos_run")]
    effects = [row[0] for row in on.execute("SELECT serial FROM chaos_effect")]
    return History(attempted, acknowledged, runs, effects, states)
