"""Waiting for jobs and watching them: what a worker would do is written to the ledger by hand."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

from starlette.testclient import TestClient

from db import ledger
from db.engine import autocommit
from tests.chaos.servers import until
from tests.jobs import nothing
from web.app import create
from web.settings import Settings

API = "/api/v1/jobs"


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream; each with its id and name."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append({"id": fields.get("id"), "event": fields["event"], **json.loads(fields["data"])})
    return found


def work(job: str, *, steps: int = 1, client: TestClient | None = None) -> None:
    """Run a job to its end as a worker does; with a client, once somebody watches it."""
    if client is not None:
        feed = client.app.state.feed  # type: ignore[attr-defined]
        until(lambda: feed.listeners)
    with autocommit() as connection:
        claimed = ledger.claim(connection, UUID(job), "w", 60)
        assert claimed is not None
        for step in range(steps):
            ledger.progress(connection, claimed.id, claimed.attempt, {"done": step, "total": steps})
        if client is not None:  # until it was told: a tick
            until(lambda: feed._watched[claimed.id].progress)
        ledger.succeed(connection, claimed.id, claimed.attempt, {"answer": 42})


def test_a_call_waits_until_the_job_is_final(client: TestClient) -> None:
    job = nothing.submit().id
    worker = threading.Timer(0.1, work, [job])
    worker.start()
    began = time.monotonic()

    shown = client.get(f"{API}/{job}", params={"wait": 30}).json()

    worker.join()
    assert (shown["state"], shown["result"]) == ("SUCCESS", {"answer": 42})
    assert time.monotonic() - began < 5
    (attempt,) = client.get(f"{API}/{job}/attempts").json()
    assert (attempt["attempt"], attempt["worker"], attempt["ended"]) == (1, "w", "SUCCESS")


def test_a_call_does_not_wait_for_ever(client: TestClient) -> None:
    job = nothing.submit().id

    assert client.get(f"{API}/{job}", params={"wait": 0.1}).json()["state"] == "PENDING"


def test_a_stream_tells_what_happens_and_ends_with_the_job(client: TestClient) -> None:
    job = nothing.submit().id
    worker = threading.Thread(target=work, args=[job], kwargs={"client": client})
    worker.start()

    stream = client.get(f"{API}/{job}/events")

    worker.join()
    assert stream.headers["content-type"].startswith("text/event-stream")
    told = events(stream.text)
    assert [each["state"] for each in told if each["event"] == "state"] == ["PENDING", "STARTED", "SUCCESS"]
    assert [each["done"] for each in told if each["event"] == "progress"] == [0]
    assert (told[-1]["final"], told[-1]["result"]) == (True, {"answer": 42})
    assert client.app.state.feed.listeners == 0  # type: ignore[attr-defined]


def test_who_comes_back_is_told_what_he_missed_and_then_to_stay_away(client: TestClient) -> None:
    job = nothing.submit().id
    work(job)
    numbers = [each["id"] for each in events(client.get(f"{API}/{job}/events").text)]

    missed = events(client.get(f"{API}/{job}/events", headers={"Last-Event-ID": numbers[0]}).text)
    nothing_more = client.get(f"{API}/{job}/events", headers={"Last-Event-ID": numbers[-1]})
    odd = events(client.get(f"{API}/{job}/events", headers={"Last-Event-ID": "x"}).text)

    assert [each["state"] for each in missed] == ["STARTED", "SUCCESS"]
    assert (nothing_more.status_code, nothing_more.text) == (204, "")
    assert [each["id"] for each in odd] == numbers == sorted(numbers, key=int)


def test_a_door_that_closes_ends_its_streams_and_answers_who_waits(clean_db: Path) -> None:
    job = nothing.submit().id
    with TestClient(create(Settings()), base_url="http://localhost:8004") as client, ThreadPoolExecutor(2) as pool:
        stream = pool.submit(client.get, f"{API}/{job}/events")
        call = pool.submit(client.get, f"{API}/{job}", params={"wait": 60})
        feed = client.app.state.feed  # type: ignore[attr-defined]
        until(lambda: feed.listeners and feed._waiting)

        client.portal.call(feed.end)  # type: ignore[union-attr]

        assert [each["state"] for each in events(stream.result(10).text)] == ["PENDING"]
        assert call.result(10).json()["state"] == "PENDING"
