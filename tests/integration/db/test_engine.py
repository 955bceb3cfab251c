"""The connections to Postgres: one that is not answered is given up."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import db.engine
from db.engine import autocommit, session

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


def test_a_callers_own_transaction_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.engine, "ANSWER_S", 0.2)

    with session() as transaction:
        assert transaction.execute(text("SELECT pg_sleep(0.5), 'done'")).one()[1] == "done"
