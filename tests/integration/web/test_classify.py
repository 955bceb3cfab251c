"""The page with a text box, with the worker's body run in a thread of this process on a model of two words."""

import re
from uuid import uuid4

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from db import token
from db.engine import session
from db.job import Job
from tests import rows
from tests.integration.web.conftest import Open
from tests.integration.web.test_jobs import submit
from tests.integration.web.test_pages import HOSTILE, OWN, Markup
from tests.integration.web.test_predict import mood, worker

__all__ = ["mood", "worker"]


def ask(client: TestClient, text: str, **fields: str) -> str:
    """Where the answer is."""
    asked = client.post(
        "/classify", data={"text": text, "model": "mood", **fields}, headers=OWN, follow_redirects=False
    )
    assert asked.status_code == 303
    return str(asked.headers["location"])


def classes(page: str) -> list[tuple[str, float]]:
    """Those named, with their per cent."""
    return [(label, float(share)) for label, share in re.findall(r"<dt[^>]*>([^<]+)</dt>.*?([\d.]+) %</dd>", page)]


def test_without_a_classifier_the_page_says_how_to_make_one(client: TestClient) -> None:
    shown = client.get("/classify")

    assert shown.status_code == 200
    assert "gristmill submit classify.train_teacher" in shown.text
    assert "<textarea" not in shown.text


@pytest.mark.usefixtures("worker")
def test_one_text_or_one_a_line_is_answered_on_a_page_that_can_be_loaded_again(client: TestClient, mood: str) -> None:
    one = client.get(ask(client, "good\ngood bad")).text
    several = ask(client, f"bad\n\n {HOSTILE} \ngood", lines="on")
    first, again = client.get(several).text, client.get(several).text

    (best, most), (other, rest) = classes(one)
    assert (best, other) == ("positive", "negative")
    assert most > 50 > rest
    assert [label for label, _ in classes(again)[::4]] == ["negative", "positive"]
    assert classes(first) == classes(again)
    assert "mood, version 1" in again
    assert again.count("<blockquote>") == 3
    assert "&lt;script&gt;" in again
    assert Markup.of(again) == {("script", "src")}
    assert "<option selected>mood</option>" in again


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        (" \n ", {}, "There is no text"),
        ("\n".join("x" * 101), {"lines": "on"}, "101 lines"),
        ("good", {"model": "nobody"}, "nobody"),
    ],
)
def test_what_cannot_be_asked_is_said_above_the_text(
    client: TestClient, mood: str, text: str, fields: dict[str, str], said: str
) -> None:
    shown = client.post("/classify", data={"text": text, "model": mood, **fields}, headers=OWN)

    assert shown.status_code == 422
    assert said in shown.text.partition('role="alert"')[2].partition("</p>")[0]
    assert "<textarea" in shown.text
    with session() as opened:
        assert opened.query(Job).count() == 0


def test_where_no_worker_answers_the_page_shows_the_job_and_looks_again(door: Open, mood: str) -> None:
    client = door(predict_seconds=0.05)
    place = ask(client, "good")
    job = place.partition("job=")[2]

    waits = client.get(place).text
    with session() as opened:
        opened.execute(update(Job).where(Job.id == job).values(state="REVOKED"))
    ended = client.get(place).text

    assert "No worker has answered yet" in waits
    assert f'href="/jobs/{job}"' in waits
    assert 'http-equiv="refresh"' in waits
    assert "There is no answer: it was cancelled" in ended
    assert 'http-equiv="refresh"' not in ended
    assert rows.row(job).params["top_k"] == 5


def test_another_kind_of_job_is_no_question(client: TestClient) -> None:
    other = submit(client, params={"x": 1}).json()["id"]

    assert client.get(f"/classify?job={other}").status_code == 404
    assert client.get(f"/classify?job={uuid4()}").status_code == 404


def test_who_may_only_read_sees_no_button_that_works(door: Open, mood: str) -> None:
    guarded = door(web_auth="on")
    with session() as opened:
        weak = token.create(opened, "looker", ["read"])
    guarded.post("/login", data={"token": weak}, headers=OWN)

    shown = guarded.get("/classify").text
    refused = guarded.post("/classify", data={"text": "good", "model": mood}, headers=OWN)
    guarded.post("/logout", headers=OWN)

    assert "disabled>Classify</button>" in shown
    assert refused.status_code == 403
    assert "Log in with another token" in refused.text
