"""Servers that ask for a password, on loopback ports."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

import broker.embedded
import db.embedded
from db.embedded import DATABASE, ROLE
from tests.chaos.servers import free_port, until


@contextmanager
def guarded_redis(folder: Path, password: str) -> Iterator[int]:
    """A Redis that wants this password; its port."""
    port = free_port()
    local = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([broker.embedded._binary(), *local, "--requirepass", password], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, password=password, socket_timeout=5) as client:
            until(client.ping)
        yield port
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def guarded_postgres(home: Path, user: str, password: str) -> Iterator[str]:
    """A Postgres, migrated, whose user proves to know the password (SCRAM); the path of its socket."""
    db.embedded.start(home)
    try:
        found = db.embedded._postmaster(home)
        assert found is not None
        where = f"host={found.socket_folder} port={found.port}"
        with psycopg.connect(f"{where} user={ROLE} dbname={DATABASE}", autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'")
            rules = home / "postgres" / "pg_hba.conf"
            rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
        yield f"{found.socket_folder}/.s.PGSQL.{found.port}"
    finally:
        db.embedded.stop(home)
