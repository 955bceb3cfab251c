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
    status, said = signed_up(body)

    assert status == "400 Bad Request"
    assert body not in (b"{}", b"[]") or 'post {"username": "ann"' in said


@pytest.mark.parametrize("name", ["a" * 101, "a\0", "\ud800"])
def test_a_name_that_its_column_does_not_take_is_answered_with_400(name: str) -> None:
    status, said = signed_up(json.dumps({"username": name, "item_ids": ["50"]}).encode())

    assert status == "400 Bad Request"
    assert "a name of up to 100 printable characters" in said
    assert "\n" not in said


def signed_up(body: bytes) -> tuple[str, str]:
    """The status and the error."""
    statuses: list[str] = []
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/signups", "CONTENT_LENGTH": str(len(body))}
    asked = environ | {"wsgi.input": io.BytesIO(body)}

    answer = b"".join(application(asked, lambda status, headers: statuses.append(status)))

    return statuses[0], json.loads(answer)["error"]
