"""Forgetting final jobs: all that are old enough, however many were submitted at once."""

from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from db import ledger, prune
from db.ledger import NewJob


def test_those_that_were_submitted_together_are_all_forgotten(on: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "MOST", 2)
    ledger.submit(on, [NewJob(uuid4(), "tests.add", "cpu", 3, {}) for _ in range(5)])
    on.execute(text("UPDATE job SET state = 'SUCCESS'"))

    counts, after = [], prune.BEGINNING
    while True:
        count, last = prune.forget(on, "tests.add", -60, after)
        counts.append(count)
        if last is None:
            break
        after = last

    assert counts == [2, 2, 1]
