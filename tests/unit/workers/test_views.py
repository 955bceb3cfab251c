"""How a result looks to a person."""

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from workers.cli.views.jobs import outcome


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
