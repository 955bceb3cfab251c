"""The feed's end, with a Postgres that keeps its thread waiting."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from db import watch
from web import feed
from web.feed import Feed


def test_a_door_closes_though_postgres_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    @contextmanager
    def hanging() -> Iterator[Any]:
        asked.set()
        answer.wait(30)
        raise OSError("it answers at last")
        yield

    monkeypatch.setattr(watch, "listening", hanging)
    monkeypatch.setattr(feed, "STOP_S", 0.05)

    async def story() -> Feed:
        made = Feed()
        made.start()
        await asyncio.to_thread(asked.wait, 10)
        await made.stop()
        return made

    with capture_logs() as logs:
        left = asyncio.run(story())

        assert [each["event"] for each in logs] == ["feed_left_behind"]
        answer.set()
        left._thread.join(10)
    assert not left._thread.is_alive()


def test_a_fault_of_ours_does_not_end_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    again = threading.Event()
    faults = iter([ValueError("ours")])

    @contextmanager
    def faulty() -> Iterator[Any]:
        for fault in faults:
            raise fault
        again.set()
        raise OSError("it is tried again")
        yield

    monkeypatch.setattr(watch, "listening", faulty)
    monkeypatch.setattr(feed, "RECONNECT_S", 0.01)

    async def story() -> None:
        made = Feed()
        made.start()
        assert await asyncio.to_thread(again.wait, 10)
        await made.stop()

    with capture_logs() as logs:
        asyncio.run(story())

    assert logs[0]["event"] == "feed_failed"
