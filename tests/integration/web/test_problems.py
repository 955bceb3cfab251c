"""Whatever is wrong with a request has an answer in the form of RFC 9457, and nothing of ours leaks."""

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from broker.job import Job
from tests.integration.web.conftest import Open
from tests.integration.web.test_pages import OWN

JSON = {"Content-Type": "application/json"}
SUBMIT = "/api/v1/jobs"


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "said"),
    [
        (b'{"kind": "tests.add", "params": {"x": NaN}}', JSON, 400, "malformed", "no JSON"),
        (b'{"kind": "tests.ad\xff"}', JSON, 400, "malformed", "no JSON"),
        (b'{"kind": "\\ud800"}', JSON, 400, "malformed", "no JSON"),
        (b"", JSON, 400, "malformed", "no JSON"),
        (b"[" * 100_000, JSON, 400, "malformed", "no JSON"),
        (b"[1]", JSON, 422, "invalid", "the body=[1]: give a JSON object, {…}"),
        (b'{"kind": 1, "params": [], "a": 1, "b": 2, "c": 3, "d": 4}', JSON, 422, "invalid", "params=[]: give a JSON"),
        (b'{"kind": 1, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5}', JSON, 422, "invalid", "not permitted; and 1 more"),
        (b'{"kind": "tests.add"}', {"Content-Type": "text/plain"}, 415, "not-json", "application/json"),
        (b'{"kind": "tests.ad", "params": {}}', JSON, 422, "unknown-kind", "did you mean tests.add"),
        (b'{"kind": "tests.add", "params": {"z": 1}}', JSON, 422, "invalid-parameters", "unknown parameter z"),
        (b'{"kind": "tests.add", "params": {"z": 1, "x": "a"}}', JSON, 422, "invalid-parameters", '; x="a": '),
        (b'{"kind": "tests.keyed", "params": {"name": "a\\u0000"}}', JSON, 422, "invalid-parameters", "NUL"),
        (b'{"kind": "tests.add", "params": {"x": 1}, "owner": "a\\u0000"}', JSON, 422, "invalid", "NUL character"),
        (b'{"kind": "tests.add", "speed": 9}', JSON, 422, "invalid", "speed"),
        (b'{"kind": "tests.add", "params": {"x": 1}, "queue": "moon"}', JSON, 422, "invalid-parameters", "moon"),
        (b'"' + b"x" * 70_000 + b'"', JSON, 413, "too-large", "GRISTMILL_WEB_BODY_BYTES"),
    ],
)
def test_a_bad_body_is_answered(
    door: Open, body: bytes, headers: dict[str, str], status: int, code: str, said: str
) -> None:
    client = door(web_body_bytes="60kB") if status == 413 else door()

    answer = client.post(SUBMIT, content=body, headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert said in problem["detail"]
    assert client.get(SUBMIT).json()["jobs"] == []


def test_a_form_with_a_nul_character_is_answered(client: TestClient) -> None:
    asked = {
        "/new/tests.add": {"nonce": "n", "params.x": "1", "owner": "a\0"},
        "/classify": {"text": "a", "model": "\0"},
    }

    for path, sent in asked.items():
        answer = client.post(path, data=sent, headers=OWN)
        assert answer.status_code == 400
        assert "contains a NUL character: leave it out" in answer.text
    assert client.post("/predict", json={"text": "a", "model": "\0"}).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/jobs/00000000-0000-0000-0000-000000000000", 404),
        ("GET", "/api/v1/jobs/short", 404),
        ("GET", "/api/v1/jobs/%00", 400),
        ("GET", "/api/v1/jobs?kind=%00", 400),
        ("GET", "/api/v1/jobs?owner=%ff", 200),
        ("GET", "/api/v1/kinds/tests.nothin", 404),
        ("GET", "/api/v1/jobs/00000000-0000-0000-0000-000000000000/events", 404),
        ("DELETE", "/api/v1/jobs", 405),
        ("POST", "/health/live", 405),
    ],
)
def test_a_bad_address_is_answered(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)

    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["status"] == status
    if status == 405:
        allowed = "GET, POST" if path == SUBMIT else "GET"
        assert answer.headers["Allow"] == allowed
        assert f"takes {allowed} only" in answer.json()["detail"]


@pytest.mark.parametrize("job", ["short", "00000000-0000-0000-0000-000000000000"])
def test_who_asks_for_a_job_that_is_not_there_is_told_of_the_list_over_http(client: TestClient, job: str) -> None:
    said = client.get(f"/api/v1/jobs/{job}").json()["detail"]

    assert "GET /api/v1/jobs" in said
    assert "gristmill" not in said


def test_a_fault_shows_nothing_but_a_number(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret of /etc/passwd")

    monkeypatch.setattr(Job, "draft", broken)

    answer = client.post(SUBMIT, json={"kind": "tests.nothing"})

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_without_postgres_callers_are_told_to_come_again(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT 1", {}, Exception("connection to postgresql://ann:hunter22@db failed"))

    monkeypatch.setattr("db.read.list_jobs", away)

    answer = client.get(SUBMIT)

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "Retry-After" in answer.headers
    assert "hunter22" not in answer.text
