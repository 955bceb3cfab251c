"""A run takes its pairs in, edits and scores each once, and goes on where it was, whatever is wrong with some."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.errors import JobError
from db import edit
from db.engine import session
from jobs.edit.tasks import evaluate
from tests.integration.edit.conftest import Write, pairs
from tests.integration.recommend.running import run

pytestmark = pytest.mark.usefixtures("clean_db")
Trace = Callable[[], list[str]]


def states(name: str = "squares") -> dict[str, str]:
    """The state of each pair, with its error, by category and id."""
    with session() as opened:
        found = edit.run(opened, name)
        assert found is not None
        rows = edit.pairs(opened, found.id)
        return {f"{row.category}{row.pair_id}": row.state + (f": {row.error}" if row.error else "") for row in rows}


def test_all_edits_come_before_all_scores_and_each_pair_has_one_of_both(write: Write, trace: Trace) -> None:
    config = write({"a": pairs("a", "x", "y", "z"), "b": pairs("b", "x", "y", "z")})

    result = run(evaluate, config=str(config))

    assert trace() == [
        "load", "edit a0 a1", "edit a2 b0", "edit b1 b2", "load", "score a0 a1 a2 b0", "score b1 b2",
    ]  # fmt: skip
    assert (result["pairs"], result["scored"], result["failed"]) == (6, 6, 0)
    with session() as opened:
        rows = list(edit.pairs(opened, edit.run(opened, result["run"]).id))
    assert {(row.edits, row.scores) for row in rows} == {(1, 1)}
