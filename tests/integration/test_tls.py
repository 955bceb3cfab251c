"""Redis and Postgres over TLS: whoever does not prove to be the server is not talked to."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from broker.settings import redis_url
from db.settings import settings
from tests.processes import ROOT, Process, start_worker
from tests.proxy import Proxy

pytestmark = pytest.mark.usefixtures("clean_db")


@dataclass(frozen=True)
class Secured:
    """Both servers behind TLS, and the files of an authority that vouches for them and of one that does not."""

    redis: Proxy
    postgres: Proxy
    authority: Path
    stranger: Path

    def urls(self, authority: Path) -> dict[str, str]:
        return {
            "GRISTMILL_BROKER_URL": f"rediss://127.0.0.1:{self.redis.port}/0?ssl_ca_certs={authority}",
            "GRISTMILL_DATABASE_URL": (
                f"postgresql://postgres@127.0.0.1:{self.postgres.port}/gristmill"
                f"?sslmode=verify-full&sslrootcert={authority}"
            ),
        }


@pytest.fixture
def secured(services: Path, tmp_path: Path) -> Iterator[Secured]:
    authority, stranger = trustme.CA(), trustme.CA()
    files = {name: tmp_path / f"{name}.pem" for name in ("authority", "stranger")}
    authority.cert_pem.write_to_path(str(files["authority"]))
    stranger.cert_pem.write_to_path(str(files["stranger"]))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    where = parse_qs(urlsplit(settings().postgres_url()).query)
    postgres_socket = f"{where['host'][0]}/.s.PGSQL.{where['port'][0]}"
    with (
        Proxy(urlsplit(redis_url()).path, tls=tls) as redis,
        Proxy(postgres_socket, tls=tls, postgres=True) as postgres,
    ):
        yield Secured(redis, postgres, **files)


def gristmill(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **env, "GRISTMILL_JOBS": "tests.jobs"}
    command = [sys.executable, "-m", "workers", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def doctor(**env: str) -> dict[str, str]:
    """What it finds wrong, by the name of the check."""
    done = gristmill("--json", "doctor", **env)
    assert "Traceback" not in done.stdout + done.stderr
    return {each["name"]: each["found"] for each in json.loads(done.stdout)["checks"] if each["ok"] is False}


def test_a_job_is_submitted_and_run_over_both(secured: Secured, services: Path) -> None:
    urls = secured.urls(secured.authority)
    worker = start_worker(services, name="tls", concurrency=1, queues="cpu.tls", **urls)
    try:
        done = gristmill("submit", "tests.add", "--x", "1", "--queue", "cpu.tls", "--wait", **urls)
    finally:
        worker.stop()

    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout
    assert secured.redis.encrypted >= 2
    assert secured.postgres.encrypted >= 2


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_another_authority_is_refused_in_one_line(secured: Secured, server: str) -> None:
    name = {"postgres": "GRISTMILL_DATABASE_URL", "redis": "GRISTMILL_BROKER_URL"}[server]
    wrong = {name: secured.urls(secured.stranger)[name]}

    found = doctor(**{**secured.urls(secured.authority), **wrong})[server]

    assert "certificate verify failed" in found.lower()
    assert "\n" not in found
    assert (secured.postgres if server == "postgres" else secured.redis).encrypted == 0


def test_a_server_of_another_name_is_refused(secured: Secured) -> None:
    urls = {name: url.replace("127.0.0.1", "localhost") for name, url in secured.urls(secured.authority).items()}

    found = doctor(**urls)

    assert 'does not match host name "localhost"' in found["postgres"]
    assert "Hostname mismatch" in found["redis"]


def test_a_worker_says_in_one_line_that_it_does_not_trust_the_broker(secured: Secured, services: Path) -> None:
    wrong = secured.urls(secured.stranger)["GRISTMILL_BROKER_URL"]
    command = [sys.executable, "-m", "celery", "-q", "-A", "broker.app", "worker", "-n", "wary@test", "-Q", "cpu.wary"]

    worker = Process(command, services, GRISTMILL_BROKER_URL=wrong)
    try:
        said = worker.wait_for("Cannot connect to rediss://")
    finally:
        worker.kill()

    assert "certificate verify failed" in said.lower()
