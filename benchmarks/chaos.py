"""A storm of SIGKILLs over the ledger's workers, and the same storm over stock Celery: what is lost, what is doubled.

Short jobs under load; pool processes, whole workers and (ours) the relay are killed at random and replaced; every run
and every effect is a row, and a history checker compares them with what was acknowledged (tests/chaos/storm.py).
Jobs and kills are totals over the seeds; Celery has the first seed's storm, with late acknowledgement, with
reject_on_worker_lost, and with a visibility timeout of 10 s: by default it would try again after an hour.
Last line: {"jobs": …, "kills": …, "lost": …, "effects_doubled": …, "runs_doubled": …, "recovery_p99_s": …,
"stock_celery": {the same}}.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.services import services
from tests.chaos.gristmill import Gristmill
from tests.chaos.storm import Kill, Outcome, Plan, Recovery, Storm, System, p99
from tests.processes import Process

LEASE_S = 3.0
VISIBILITY_S = 10
KEYS = ("jobs", "kills", "lost", "effects_doubled", "runs_doubled", "recovery_p99_s")


class StockCelery:
    """Celery's own workers and queue on the same Redis, with results on Redis."""

    name = "stock celery"

    def __init__(self, home: Path, url: str) -> None:
        self._home = home
        self._url = url.replace("+psycopg", "", 1)
        self._env = {"GRISTMILL_PEER_RESULTS": "redis", "GRISTMILL_PEER_VISIBILITY_SECONDS": f"{VISIBILITY_S}"}
        os.environ.update(self._env)  # this process submits
        from benchmarks.peer import app, work
        from broker.settings import make_client

        self._app, self._work, self._redis = app, work, make_client()
        self._ids: dict[int, str] = {}

    def clear(self) -> None:
        """See System."""
        self._redis.flushall()
        self._ids.clear()

    def start_worker(self, name: str, processes: int) -> Process:
        """See System."""
        options = ["-n", f"{name}@storm", "-Q", "peer", "-c", str(processes), "--without-gossip", "--without-mingle"]
        command = [sys.executable, "-m", "celery", "-q", "-A", "benchmarks.peer", "worker", *options, "-l", "WARNING"]
        return Process(command, self._home, WORKER=name, **self._env)

    def start_relay(self) -> None:
        """Celery has none."""

    def submit(self, items: Sequence[dict[str, Any]]) -> int:
        """See System. One by one: Celery has no way to submit many."""
        with self._app.producer_pool.acquire(block=True) as producer:
            for item in items:
                self._ids[item["serial"]] = self._work.apply_async(
                    kwargs=item, producer=producer, ignore_result=False
                ).id
        return len(items)

    def unfinished(self) -> int:
        """See System. What waits, and what was taken and not acknowledged."""
        return int(self._redis.llen("peer")) + int(self._redis.hlen("unacked"))

    def states(self) -> list[tuple[int, str]]:
        """See System."""
        serials = list(self._ids)
        found: list[tuple[int, str]] = []
        for start in range(0, len(serials), 10_000):
            page = serials[start : start + 10_000]
            raws = self._redis.mget([f"celery-task-meta-{self._ids[serial]}" for serial in page])
            # What Celery says of a task that it has no result of.
            states = [json.loads(raw)["status"] if raw else "PENDING" for raw in raws]
            found += zip(page, states, strict=True)
        return found

    def recoveries(self, kills: Sequence[Kill]) -> list[Recovery]:
        """See System. By the runs: begun there before the kill, without an effect, begun again after it."""
        return [
            Recovery(*row)
            for kill in kills
            for row in self._query(
                """SELECT serial, extract(epoch FROM again.began_at)::float8 - %(at)s FROM chaos_run held
                   JOIN LATERAL (SELECT began_at FROM chaos_run WHERE job_id = held.job_id AND id > held.id
                                 ORDER BY id LIMIT 1) again ON extract(epoch FROM again.began_at) > %(at)s
                   WHERE held.worker = %(name)s AND NOT EXISTS (SELECT 1 FROM chaos_effect WHERE run = held.id)""",
                {"at": kill.at, "name": kill.name},
            )
        ]

    def explain(self, serial: int) -> str:
        """See System."""
        rows = self._query(
            """SELECT began_at::text, 'run ' || id || ' on ' || worker FROM chaos_run WHERE serial = %(serial)s
               UNION ALL SELECT at::text, 'effect of run ' || run FROM chaos_effect WHERE serial = %(serial)s
               ORDER BY 1""",
            {"serial": serial},
        )
        return "\n".join([f"serial {serial}:", *(f"  {at}  {what}" for at, what in rows)])

    def _query(self, statement: str, values: dict[str, Any]) -> list[Any]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()


def plans(seeds: Sequence[int], jobs: int, kills: int) -> list[Plan]:
    """The totals, shared out over the seeds."""
    shares = [(seed, share(jobs, len(seeds), n), share(kills, len(seeds), n)) for n, seed in enumerate(seeds)]
    # Bounded: a machine on which it takes longer than this is not fit for it.
    return [Plan(seed, jobs, kills, limit_s=300 + jobs / 15 + kills * 15) for seed, jobs, kills in shares]


def share(total: int, parts: int, number: int) -> int:
    """The n-th of so many whole parts."""
    return total // parts + (number < total % parts)


def storm(system: System, plan: Plan, url: str) -> Outcome:
    """One storm, its course on stderr and its outcome on stdout."""
    outcome = Storm(system, plan, url, lambda line: print(line, file=sys.stderr, flush=True)).run()
    print(f"{system.name}: {outcome}\n", flush=True)
    return outcome


def totals(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """The keys of the last line."""
    recovery_s = p99([one.seconds for each in outcomes for one in each.recoveries])
    values = (
        sum(len(each.verdict.acknowledged) for each in outcomes),
        sum(each.killed("worker", "child") for each in outcomes),
        sum(len(each.verdict.lost) for each in outcomes),
        sum(len(each.verdict.duplicated) for each in outcomes),
        sum(len(each.verdict.runs_doubled) for each in outcomes),
        None if recovery_s is None else round(recovery_s, 2),
    )
    return dict(zip(KEYS, values, strict=True))


def table(systems: dict[str, dict[str, float | int | None]]) -> str:
    """A line for each system."""
    lines = [("", *KEYS), *((name, *(row[key] for key in KEYS)) for name, row in systems.items())]
    return "\n".join(f"{name:14}" + "".join(f"{value!s:>17}" for value in values) for name, *values in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000, help="in total, over all seeds")
    parser.add_argument("--kills", type=int, default=120, help="of pool processes and workers, over all seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--peer-jobs", type=int, help="default: as many as the first seed has here")
    parser.add_argument("--peer-kills", type=int, help="default: as many as the first seed has here")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--peer-only", action="store_true", help="stock Celery alone")
    which.add_argument("--no-peer", action="store_true", help="Gristmill alone")
    options = parser.parse_args()
    storms = plans(options.seeds, options.jobs, options.kills)
    found: dict[str, Any] = {}
    with services() as home:
        from db.settings import settings

        url = settings().postgres_url()
        if not options.peer_only:
            system = Gristmill(home, url, LEASE_S)
            found["gristmill"] = totals([storm(system, plan, url) for plan in storms])
        if not options.no_peer:
            jobs, kills = options.peer_jobs or storms[0].jobs, options.peer_kills or storms[0].kills
            (plan,) = plans(options.seeds[:1], jobs, kills)
            found["stock celery"] = totals([storm(StockCelery(home, url), plan, url)])
    print(table(found))
    ours = found.get("gristmill", {})
    print(json.dumps({**ours, **({"stock_celery": found["stock celery"]} if "stock celery" in found else {})}))


if __name__ == "__main__":
    main()
