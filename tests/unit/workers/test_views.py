"""How a result looks to a person."""

import io
import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from db.read import Event, JobDetail
from workers.cli.views.jobs import clipped, detail, outcome


def shown(result: Any, *, terminal: bool = False) -> str:
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
    outcome(Console(file=out, width=200, force_terminal=terminal, color_system=None), job)
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


def test_a_lost_attempt_ran_so_long_at_most_and_its_traceback_says_nothing() -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    ended = begun + timedelta(seconds=30)
    lost = Event(ended, "STARTED", "FAILURE", 1, "w", "killed", 7.5, "WorkerLostError", 1)
    nothing: dict[str, Any] = {each.name: None for each in fields(JobDetail)}
    known = {"kind": "a.kind", "state": "FAILURE", "children": {}, "began_at": begun, "started_at": begun}
    out = io.StringIO()

    error = {"type": "WorkerLostError", "message": "it was killed", "traceback": "Traceback of the pool"}
    job = JobDetail(**nothing | known | {"created_at": begun, "finished_at": ended, "history": [lost], "error": error})
    detail(Console(file=out, width=200), job)

    assert "30 s, of which at most 7.5 s at work" in out.getvalue()
    assert out.getvalue().endswith("\nWorkerLostError: it was killed\n")


LONG = {
    "name": "student", "version": 3, "promoted": True, "report": "d" * 64, "warnings": ["2 texts are double"],
    "dev": {"accuracy": 0.912345, "macro_f1": 0.9}, "metrics": {"f1": 0.5, "test": {"n": 9}, "matrix": [[1]]},
    "teacher": None, "epochs": [{"loss": n} for n in range(9)],
    "verdict": "3.0 points behind teacher@1", "note": "",
}  # fmt: skip


def test_a_long_result_on_a_terminal_is_told_in_words_and_says_where_the_rest_is() -> None:
    _, *lines = shown(LONG, terminal=True).splitlines()

    assert lines == [
        "name: student",
        "version: 3",
        "promoted: yes",
        "dev: accuracy 0.9123, macro_f1 0.9",
        "metrics.f1: 0.5",
        "metrics.test: n 9",
        "warnings: 2 texts are double",
        "verdict: 3.0 points behind teacher@1",
        "its report: `gristmill report 1`",
        "the whole result: `gristmill show 1 --json`",
    ]


def test_a_script_and_a_short_result_get_the_whole() -> None:
    assert json.loads(shown(LONG).partition("\n")[2]) == LONG
    assert json.loads(shown({"sum": 3}, terminal=True).partition("\n")[2]) == {"sum": 3}
