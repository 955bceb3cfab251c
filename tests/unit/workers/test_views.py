"""How a result looks to a person."""

import io
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from db.read import Event, JobDetail
from workers.cli.views.jobs import clipped, detail, outcome


def shown(result: Any) -> str:
    out = io.StringIO()
    job: Any = SimpleNamespace(
        kind="a.kind",
        id="1",
        state="SUCCESS",
        error=None,
        result=result,
        began_at=None,
        started_at=None,
        finished_at=None,
    )
    outcome(Console(file=out, width=200), job)
    return out.getvalue()


def test_a_matrix_of_a_result_has_a_line_a_row_and_texts_stay_as_they_are() -> None:
    text = shown({"confusion": [[67, 1], [-2, 7.5e-3]], "said": ["[ 1,  2 ]", "two"], "none": []})

    assert "    [67, 1],\n    [-2, 0.0075]\n" in text
    assert '    "[ 1,  2 ]",\n    "two"\n' in text
    assert '"none": []' in text


def test_a_long_line_ends_with_a_word_where_it_has_words() -> None:
    assert clipped("word " * 16 + "and") == "word " * 15 + "word…"
    assert clipped("字" * 100) == "字" * 80 + "…"
    assert clipped("short") == "short"


def test_of_an_attempt_that_was_lost_only_is_known_how_long_it_ran_at_most() -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    ended = begun + timedelta(seconds=30)
    lost = Event(ended, "STARTED", "FAILURE", 1, "w", "killed", 7.5, "WorkerLostError", 1)
    nothing: dict[str, Any] = {each.name: None for each in fields(JobDetail)}
    known = {"kind": "a.kind", "state": "FAILURE", "children": {}, "began_at": begun, "started_at": begun}
    out = io.StringIO()

    detail(
        Console(file=out, width=200),
        JobDetail(**nothing | known | {"created_at": begun, "finished_at": ended, "history": [lost]}),
    )

    assert "30 s, of which at most 7.5 s at work" in out.getvalue()
