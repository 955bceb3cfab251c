"""This project as the storm's system: its workers and relays over its ledger."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.storm import Kill, Recovery
from tests.processes import Process


class Gristmill:
    """See storm.System."""

    name = "gristmill"

    def __init__(self, home: Path, url: str, lease_s: float) -> None:
        self._home = home
        self._url = url.replace("+psycopg", "", 1)
        self._env = {"GRISTMILL_LEASE_SECONDS": f"{lease_s:g}"}

    def clear(self) -> None:
        """See System."""
        from broker.settings import make_client

        self._query("TRUNCATE job, job_event, barrier")
        with make_client() as client:
            client.flushall()

    def start_worker(self, name: str, processes: int) -> Process:
        """See System."""
        options = ["-n", f"{name}@storm", "-Q", "cpu", "-c", str(processes), "--without-gossip", "--without-mingle"]
        command = [sys.executable, "-m", "celery", "-q", "-A", "broker.app", "worker", *options, "-E", "-l", "WARNING"]
        return Process(command, self._home, WORKER=name, **self._env)

    def start_relay(self) -> Process:
        """See System."""
        command = [sys.executable, "-c", "from workers.relay import main; main()"]
        return Process(command, self._home, **self._env)

    def submit(self, items: Sequence[dict[str, Any]]) -> int:
        """See System."""
        from tests.chaos.jobs import work

        if len(items) == 1:
            work.submit(**items[0])
        else:
            work.submit_many(items)
        return len(items)

    def unfinished(self) -> int:
        """See System."""
        return int(self._query("SELECT count(*) FROM job WHERE state IN ('PENDING', 'STARTED', 'RETRY')")[0][0])

    def states(self) -> list[tuple[int, str]]:
        """See System."""
        return self._query("SELECT (params->>'serial')::int, state FROM job")

    def recoveries(self, kills: Sequence[Kill]) -> list[Recovery]:
        """See System. By the job's history: started there, not ended there before the kill, started again."""
        return [
            Recovery(*row)
            for kill in kills
            for row in self._query(
                """SELECT (params->>'serial')::int, extract(epoch FROM again.at)::float8 - %(at)s
                   FROM job_event held JOIN job ON job.id = held.job_id
                   JOIN LATERAL (SELECT at, to_state FROM job_event WHERE job_id = held.job_id AND id > held.id
                                 ORDER BY id LIMIT 1) ended ON ended.to_state = 'RETRY'
                   JOIN LATERAL (SELECT at FROM job_event WHERE job_id = held.job_id AND id > held.id
                                 AND to_state = 'STARTED' ORDER BY id LIMIT 1) again ON true
                   WHERE held.to_state = 'STARTED' AND held.worker LIKE %(name)s || '@%%'
                     AND extract(epoch FROM ended.at) > %(at)s""",
                {"at": kill.at, "name": kill.name},
            )
        ]

    def explain(self, serial: int) -> str:
        """See System."""
        rows = self._query(
            """SELECT at::text, coalesce(from_state, '-'), to_state, attempt::text, worker, error FROM job_event
               WHERE job_id IN (SELECT id FROM job WHERE (params->>'serial')::int = %(serial)s)
               UNION ALL SELECT began_at::text, '', 'run ' || id, attempt::text, worker, '' FROM chaos_run
               WHERE serial = %(serial)s
               UNION ALL SELECT at::text, '', 'effect', 'of run ' || run, '', '' FROM chaos_effect
               WHERE serial = %(serial)s ORDER BY 1""",
            {"serial": serial},
        )
        return "\n".join([f"serial {serial}:", *("  " + "  ".join(str(each or "") for each in row) for row in rows)])

    def _query(self, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            found = connection.execute(statement, values)
            return found.fetchall() if found.description else []
