"""What the ledger says of a job, for tests; and how to begin with no rows."""

import psycopg
from psycopg import sql
from sqlalchemy import select

from broker.settings import make_client
from db.engine import session
from db.job import Job, JobEvent
from db.settings import settings


def row(job_id: str) -> Job:
    """The job's row."""
    with session() as opened:
        return opened.scalars(select(Job).where(Job.id == job_id)).one()


def starts(job_id: str) -> int:
    """How often the job was started."""
    with session() as opened:
        events = opened.scalars(select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.to_state == "STARTED"))
        return len(list(events))


def wipe() -> None:
    """No rows and no keys any more, and ids from 1. TRUNCATE takes three times as long: it makes every file anew."""
    with _connect() as connection:
        emptied = [sql.SQL("DELETE FROM {};").format(sql.Identifier(table)) for table in _tables(connection)]
        connection.execute(
            sql.SQL("SET session_replication_role = replica; {} {}").format(sql.SQL(" ").join(emptied), _FROM_1)
        )
    with make_client() as client:
        client.flushall()


_FROM_1 = sql.SQL("""
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false)
    FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL""")


def wait_for_no_disk() -> None:
    """Commits return before they are on the disk, from now on."""
    with _connect() as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def keep(name: str) -> None:
    """Remember all rows under a name, so that what took long to make is made once for many tests."""
    with _connect() as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}").format(sql.Identifier(name)))
        for table in _tables(connection):
            copy = sql.SQL("CREATE TABLE {} AS TABLE {}").format(sql.Identifier(name, table), sql.Identifier(table))
            connection.execute(copy)


def restore(name: str) -> bool:
    """Put remembered rows into the empty tables; False when nothing is remembered under that name."""
    with _connect() as connection:
        if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name]).fetchone():
            return False
        connection.execute("SET session_replication_role = replica")  # no triggers and no order of foreign keys
        for table in _tables(connection):
            source, target = sql.Identifier(name, table), sql.Identifier(table)
            connection.execute(
                sql.SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE SELECT * FROM {}").format(target, source)
            )
        for table, column in connection.execute(_NUMBERED).fetchall():
            count_on = sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), greatest(max({}), 1)) FROM {}")
            names = sql.Literal(table), sql.Literal(column), sql.Identifier(column), sql.Identifier(table)
            connection.execute(count_on.format(*names))
        return True


_NUMBERED = """
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' AND (is_identity = 'YES' OR column_default LIKE 'nextval(%')"""


def _connect() -> psycopg.Connection:
    return psycopg.connect(settings().postgres_url().replace("+psycopg", "", 1), autocommit=True)


def _tables(connection: psycopg.Connection) -> list[str]:
    found = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    return [name for (name,) in found]
