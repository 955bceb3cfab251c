"""What a job's listeners are told, and when: a job, its transitions and its progress by hand."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from web.watched import Alarm, Frame, Watched


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 10))


async def turns(count: int) -> None:
    """Let the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def listen(frames: AsyncIterator[Frame], heard: list[Frame]) -> None:
    async for frame in frames:
        heard.append(frame)


def test_who_comes_is_told_all_at_once_and_then_what_comes() -> None:
    async def story() -> list[Frame]:
        watched, heard = Watched(Alarm()), list[Frame]()
        watched.step(1, {"state": "PENDING"}, final=False)
        watched.step(2, {"state": "STARTED"}, final=False)
        watched.proceed({"done": 1})
        listener = asyncio.create_task(listen(watched.frames(after=1), heard))
        await turns(3)
        watched.proceed({"done": 1})  # no news
        watched.proceed({"done": 2})
        await turns(3)
        watched.step(3, {"state": "SUCCESS"}, final=True)
        await listener
        return heard

    assert run(story()) == [
        b'id: 2\nevent: state\ndata: {"state":"STARTED"}\n\nevent: progress\ndata: {"done":1}\n\n',
        b'event: progress\ndata: {"done":2}\n\n',
        b'id: 3\nevent: state\ndata: {"state":"SUCCESS"}\n\n',
    ]


def test_a_second_attempt_tells_the_same_progress_again() -> None:
    watched = Watched(Alarm())

    async def story() -> list[Frame | None]:
        told = []
        for number in (1, 2):
            watched.step(number, {"state": "STARTED"}, final=False)
            told.append(watched.progress)
            watched.proceed({"done": 0})
            told.append(watched.progress)
        return told

    nothing, frame, nothing_again, frame_again = run(story())
    assert nothing is nothing_again is None
    assert frame == frame_again == b'event: progress\ndata: {"done":0}\n\n'


def test_a_thousand_listeners_are_woken_a_few_at_a_time() -> None:
    async def story() -> tuple[list[int], int]:
        watched, heard = Watched(Alarm()), list[Frame]()
        listeners = [asyncio.create_task(listen(watched.frames(after=0), heard)) for _ in range(1000)]
        await turns(2)
        watched.proceed({"done": 1})
        by_turn = []
        while len(heard) < len(listeners):  # each turn is one in which another request would be answered too
            before = len(heard)
            await turns(1)
            by_turn.append(len(heard) - before)
        watched.over = True
        watched.tell()
        await asyncio.gather(*listeners)
        return by_turn, len(heard)

    by_turn, heard = run(story())
    assert max(by_turn) <= 20
    assert heard == 1000


def test_a_silent_stream_is_kept_alive_and_one_that_was_told_something_is_left_alone() -> None:
    async def story() -> list[Frame]:
        watched, heard = Watched(Alarm()), list[Frame]()
        listener = asyncio.create_task(listen(watched.frames(after=0), heard))
        await turns(2)
        for _ in range(2):
            watched.proceed({"done": 1})
            await turns(3)
            watched.beat()
            await turns(3)
        listener.cancel()
        return heard

    assert run(story()) == [b'event: progress\ndata: {"done":1}\n\n', b": still here\n\n"]
