"""The examples say in one line what is wrong."""

import io
import json
import runpy
import sys
from pathlib import Path

import pytest

from examples.webapp import application

ENQUEUE = Path(__file__).parents[2] / "examples" / "enqueue.py"


def test_enqueueing_for_a_user_that_nobody_knows_ends_in_one_line(
    clean_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["enqueue.py", "nosuch"])

    with pytest.raises(SystemExit, match=r"^enqueue\.py: unknown user 'nosuch': import a history"):
        runpy.run_path(str(ENQUEUE))


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"username": ["ann"], "item_ids": ["50"]}', b"nonsense", b"\xff"])
def test_a_sign_up_that_is_none_is_answered_with_400(body: bytes) -> None:
    said: list[str] = []
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/signups", "CONTENT_LENGTH": str(len(body))}

    answer = b"".join(
        application(environ | {"wsgi.input": io.BytesIO(body)}, lambda status, headers: said.append(status))
    )

    assert said == ["400 Bad Request"]
    assert body not in (b"{}", b"[]") or 'post {"username": "ann"' in json.loads(answer)["error"]
