"""A password that is in the URLs of the servers is in nothing that any process says, stores or shows."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DataError

from db.embedded import DATABASE, ROLE
from db.engine import session
from tests.guarded import guarded_postgres, guarded_redis
from tests.processes import ROOT, Process, start_relay
from tests.proxy import Proxy

PASSWORD = "open/sesame@42"
QUOTED = quote(PASSWORD, safe="")

# Commands one after the other, since each process takes seconds to start.
COMMANDS = """
import sys
from workers.cli import main
for line in sys.argv[1:]:
    sys.argv[1:] = line.split("|")
    try:
        main()
    except SystemExit:
        sys.stdout.flush()
"""
ABOUT_WORKERS = """
from broker.app import app
asked = app.control.inspect(timeout=5)
for answer in (asked.ping(), asked.stats(), asked.report(), asked.conf(), asked.active(), asked.registered()):
    assert answer
    print(answer)
print(app.bugreport())
"""


@dataclass
class Site:
    """Servers with passwords, and what has been said about them."""

    home: Path
    postgres: Proxy
    postgres_socket: Path
    redis_port: int
    said: dict[str, str]

    def urls(self, password: str = QUOTED) -> dict[str, str]:
        return {
            "GRISTMILL_BROKER_URL": f"redis://:{password}@127.0.0.1:{self.redis_port}/0",
            "GRISTMILL_DATABASE_URL": f"postgresql://mill:{password}@127.0.0.1:{self.postgres.port}/gristmill",
            "GRISTMILL_HOME": str(self.home),
            "FLOWER_UNAUTHENTICATED_API": "1",
        }

    def start(self, *command: str) -> Process:
        return Process([sys.executable, "-m", *command], self.home, **self.urls())

    def ask(self, program: str, *arguments: str, **env: str) -> str:
        """Run a program to its end, and keep what it says."""
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120,
            env={**os.environ, **self.urls(), "GRISTMILL_JOBS": "tests.jobs", **env},
        )  # fmt: skip
        self.said[f"{arguments} {env}"] = done.stdout + done.stderr
        return done.stdout

    def look(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=30) as answer:
            self.said[url] = answer.read().decode()

    def rows(self) -> None:
        where = {"host": str(self.postgres_socket.parent), "port": self.postgres_socket.suffix[1:]}
        with psycopg.connect(user=ROLE, dbname=DATABASE, **where) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (name,) in tables:
                rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))).fetchall()
                self.said[f"table {name}"] = "\n".join(map(str, rows))


def test_a_failed_statement_does_not_quote_the_parameters_of_jobs(services: Path) -> None:
    with pytest.raises(DataError) as raised, session() as opened:
        opened.execute(text("SELECT 1 / (length(:x) - length(:x))"), {"x": PASSWORD})

    assert PASSWORD not in str(raised.value)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    home.mkdir()
    with (
        guarded_redis(tmp_path, PASSWORD) as redis_port,
        guarded_postgres(home, "mill", PASSWORD) as path,
        Proxy(path) as postgres,
    ):
        yield Site(home, postgres, Path(path), redis_port, {})


def leaks(said: Mapping[str, str]) -> dict[str, list[str]]:
    found = {
        where: [line for line in text.splitlines() if PASSWORD in line or QUOTED in line or "sesame" in line]
        for where, text in said.items()
    }
    return {where: lines for where, lines in found.items() if lines}


@pytest.mark.timeout(400)  # a dozen processes
def test_a_password_is_seen_nowhere(site: Site) -> None:
    site.ask(COMMANDS, "migrate")
    processes = {
        "worker": site.start("workers", "worker", "cpu", "--processes", "1"),
        "relay": start_relay(site.home, **site.urls()),
        "beat": site.start("workers", "beat"),
        "flower": site.start("workers", "flower", "--port", "5599"),
    }
    try:
        flower = processes["flower"].wait_for("flower: ").split("flower: ")[1].strip()
        processes["worker"].wait_for("ready.")

        # What fails, and says with what.
        hows = "raises the database's URL", "logs the database's URL"
        submitted = site.ask(COMMANDS, *(f"submit|tests.odd|--how|{how}|--wait" for how in hows), "jobs", "--json|jobs")
        ids = [each["id"] for each in json.loads(submitted.splitlines()[-1])]
        assert len(ids) == len(hows)
        wrong = site.urls(f"{QUOTED}x")
        away = {name: url.replace("127.0.0.1", "127.0.0.2") for name, url in site.urls().items() if "URL" in name}
        half_quoted = site.urls(PASSWORD)
        for env in (wrong, away, half_quoted):
            site.ask(COMMANDS, "--json|doctor", "jobs", "submit|tests.nothing", **env)
        site.ask(COMMANDS, "--json|doctor", "queues", *(f"show|{each}" for each in ids))

        # What shows how things are.
        site.ask(ABOUT_WORKERS)
        pages = [
            "/",
            f"/worker/cpu@{socket.gethostname()}",
            "/tasks",
            "/broker",
            "/api/workers?refresh=1",
            "/api/tasks",
        ]
        for page in [*pages, *(f"/task/{each}" for each in ids), *(f"/api/task/info/{each}" for each in ids)]:
            site.look(flower + page)
        assert any("raises the database" in site.said[f"{flower}/task/{each}"] for each in ids)
        for name, process in processes.items():
            parent = psutil.Process(process.popen.pid)
            titles = [" ".join(each.cmdline()) for each in (parent, *parent.children(recursive=True))]
            site.said[f"titles of {name}"] = "\n".join(titles)

        # The servers go away under those who run.
        with redis.Redis(port=site.redis_port, password=PASSWORD) as client:
            client.config_set("requirepass", "another")
            client.client_kill_filter(_type="normal", skipme=True)
        processes["worker"].wait_for("Cannot connect to redis")
        site.postgres.__exit__()
        processes["relay"].wait_for("postgres_away")
    finally:
        for process in processes.values():
            process.stop()
    site.said |= {f"what {name} says": "".join(process.lines) for name, process in processes.items()}
    site.rows()

    assert leaks(site.said) == {}
    assert site.said["table job"].count("cannot reach postgresql://mill:***@") >= 1
    assert site.said["table job_event"].count("mill:***@") >= 1
    assert site.said["what worker says"].count("mill:***@") >= 3  # by structlog, by Celery, and by the job itself
