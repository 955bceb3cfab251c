"""Pages for what is not there, not allowed or away; and that what may be read may be asked for its headers alone."""

from typing import Any

import pytest
from psycopg.errors import UndefinedTable
from sqlalchemy.exc import OperationalError, ProgrammingError
from starlette.testclient import TestClient

from tests.integration.web.conftest import Open
from tests.integration.web.test_jobs import submit
from web.pages import overview
from web.pages.words import prose

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/jobs/%00", 400), ("DELETE", "/jobs", 405), ("GET", "/jobs/short", 404)],
)
def test_a_browser_gets_a_page_for_a_bad_address(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers=BROWSER)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert '<nav aria-label="Pages">' in answer.text
    assert f">{status}<" in answer.text


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/jobs/short", "/predict", "/health/nothing"])
def test_the_api_answers_a_browser_as_it_answers_all(client: TestClient, path: str) -> None:
    assert client.get(path, headers=BROWSER).headers["content-type"] in ("application/problem+json", "application/json")


def test_a_host_that_is_none_is_refused(client: TestClient) -> None:
    answers = [client.get("/", headers={"Host": host, **BROWSER}) for host in ("[::1", "elsewhere.example")]

    assert [(each.status_code, "GRISTMILL_WEB_HOSTS" in each.text) for each in answers] == [(400, True)] * 2


def test_pages_have_heads(client: TestClient) -> None:
    job = submit(client, params={"x": 1}).json()["id"]

    for path in ("/", "/jobs", f"/jobs/{job}", "/edits", "/classify", "/jobs/nothing", "/pages/style.css"):
        whole, head = client.get(path, headers=BROWSER), client.head(path, headers=BROWSER)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert client.head(f"/jobs/{job}/events").status_code == 405


def test_whom_the_door_does_not_know_is_asked_for_a_token(door: Open) -> None:
    guarded = door(web_auth="on")

    assert guarded.head("/edits", follow_redirects=False).headers["location"] == "/login?next=%2Fedits"
    assert guarded.get("/nothing", headers=BROWSER).status_code == 404
    assert "Log out" not in guarded.get("/login").text


def test_without_redis_pages_work_and_say_what_waits(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "redis_now", lambda: "away")
    overview.lately.forget()

    shown = client.get("/").text
    overview.lately.forget()

    assert "Redis does not answer. Running jobs go on" in shown


def test_a_message_is_a_sentence_whose_commands_are_code() -> None:
    assert prose("<b>: `gristmill up` & wait") == "&lt;b&gt;: <code>gristmill up</code> &amp; wait"
    assert prose("half `of it") == "half `of it"


def test_without_postgres_a_page_says_what_goes_on(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT 1", {}, Exception("connection to postgresql://ann:hunter22@db failed"))

    monkeypatch.setattr(overview, "_read", away)
    overview.lately.forget()

    shown = client.get("/", headers=BROWSER)

    assert (shown.status_code, shown.headers["retry-after"]) == (503, "2")
    assert "Postgres does not answer" in shown.text
    assert "running jobs are finished" in shown.text
    assert 'http-equiv="refresh"' in shown.text
    assert "hunter22" not in shown.text


def test_a_database_without_tables_is_no_fault_of_ours(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(*_: Any, **__: Any) -> None:
        raise ProgrammingError("SELECT 1", {}, UndefinedTable('relation "job" does not exist'))

    monkeypatch.setattr(overview, "_read", empty)
    overview.lately.forget()

    shown = client.get("/", headers=BROWSER)

    assert (shown.status_code, "<code>gristmill migrate</code>" in shown.text) == (503, True)
