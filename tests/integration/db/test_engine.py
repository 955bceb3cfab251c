"""The connections to Postgres: one that is not answered is given up."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

import db.engine
from db import read
from db.engine import autocommit, bare_cursor, session, snapshot
from tests.jobs import add

pytestmark = pytest.mark.usefixtures("services")


def test_a_statement_that_is_not_answered_is_given_up_and_its_connection_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(db.engine, "ANSWER_S", 0.2)

    with pytest.raises(OperationalError, match=r"has not answered for 0\.2 s"), autocommit() as connection:
        connection.execute(text("SELECT pg_sleep(2), 'late'"))

    with autocommit() as connection:
        assert connection.execute(text("SELECT 'next'")).scalar() == "next"


def test_a_refused_statement_leaves_its_connection_in_use() -> None:
    db.engine.dispose()  # of several the pool would give another
    with autocommit() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    with pytest.raises(OperationalError), autocommit() as connection:
        connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '57014'; END $$"))

    with autocommit() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == before


def test_a_bare_cursor_raises_the_errors_of_sqlalchemy_and_a_lost_connection_is_not_given_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ProgrammingError, match="nothing_so_named"), bare_cursor() as cursor:
        cursor.execute("SELECT * FROM nothing_so_named")
    monkeypatch.setattr(db.engine, "ANSWER_S", 0.2)
    with pytest.raises(OperationalError, match=r"has not answered for 0\.2 s"), bare_cursor() as cursor:
        cursor.execute("SELECT pg_sleep(2), 'late'")

    with bare_cursor() as cursor:
        assert cursor.execute("SELECT 'next'").fetchone() == ("next",)


def test_what_runs_alone_is_not_compiled() -> None:
    with autocommit() as connection:
        assert connection.execute(text("SHOW jit")).scalar() == "off"


def test_a_callers_own_transaction_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.engine, "ANSWER_S", 0.2)

    with session() as transaction:
        assert transaction.execute(text("SELECT pg_sleep(0.5), 'done'")).one()[1] == "done"


def test_a_snapshot_sees_one_moment_in_all_its_statements(clean_db: Path) -> None:
    made = add.submit(x=1).id

    with snapshot() as seen:
        before = read.show(seen, made)
        with session() as opened:
            opened.execute(text("UPDATE job SET state = 'REVOKED', finished_at = now() WHERE id = :id"), {"id": made})
        again = read.show(seen, made)
    with session() as opened:
        after = read.show(opened, made)

    assert again == before
    assert (before.state, after.state) == ("PENDING", "REVOKED")
    assert len(after.history) == len(before.history) + 1
