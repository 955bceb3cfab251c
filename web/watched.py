"""A job with listeners: its events as bytes that are made once for all of them, and the waking of a few at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

KEEP_ALIVE_S = 15.0  # proxies close what is silent for longer

_AT_ONCE = 20  # whoever is woken takes some 50 us of the loop, which is to answer other requests in between
_STILL_HERE = b": still here\n\n"

Frame = bytes
Sleeper = asyncio.Future[bool]  # True: there is news; False: there was none for long


class Alarm:
    """Wakes sleepers in order, a few in each turn of the event loop."""

    def __init__(self) -> None:
        self._due: deque[tuple[Sleeper, bool]] = deque()

    def wake(self, sleepers: list[Sleeper], news: bool) -> None:
        """Soon."""
        if sleepers and not self._due:
            asyncio.get_running_loop().call_soon(self._some)
        self._due.extend((each, news) for each in sleepers)

    def _some(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._due))):
            sleeper, news = self._due.popleft()
            if not sleeper.done():
                sleeper.set_result(news)
        if self._due:
            asyncio.get_running_loop().call_soon(self._some)


@dataclass
class Watched:
    """What has happened to a job that somebody listens to."""

    alarm: Alarm
    transitions: list[tuple[int, Frame]] = field(default_factory=list)
    progress: Frame | None = None
    told: dict[str, Any] | None = None  # as progress
    final: bool = False
    over: bool = False  # nothing more is told, though the job goes on: this process ends
    listeners: int = 0
    _news: int = 0  # how often there was any
    _news_at_beat: int = 0
    _asleep: list[Sleeper] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The number of the last transition."""
        return self.transitions[-1][0] if self.transitions else 0

    def step(self, number: int, told: dict[str, Any], *, final: bool) -> None:
        """A transition."""
        self.transitions.append((number, _frame("state", number, told)))
        self.progress, self.told, self.final = None, None, final
        self.tell()

    def proceed(self, told: dict[str, Any]) -> None:
        """Progress, if there is any since it was told last."""
        if told != self.told:
            self.told, self.progress = told, _frame("progress", None, told)
            self.tell()

    def tell(self) -> None:
        """Wake all who listen."""
        self._news += 1
        self._wake(news=True)

    def beat(self) -> None:
        """Called every half of KEEP_ALIVE_S: who was told nothing since the last time is told that."""
        if self._news == self._news_at_beat:
            self._wake(news=False)
        self._news_at_beat = self._news

    async def frames(self, after: int) -> AsyncIterator[Frame]:
        """What there is after this transition, all at once, and then what comes, until it is final."""
        shown: Frame | None = None
        while True:
            known = self._news
            due = [frame for number, frame in self.transitions if number > after]
            after = max(after, self.last)
            if self.progress is not None and self.progress is not shown:
                shown = self.progress
                due.append(shown)
            if due:
                yield b"".join(due)
            if self.final or self.over:
                return
            if self._news == known:  # nothing came while that was sent
                sleeper: Sleeper = asyncio.get_running_loop().create_future()
                self._asleep.append(sleeper)
                if not await sleeper:
                    yield _STILL_HERE

    def _wake(self, *, news: bool) -> None:
        asleep, self._asleep = self._asleep, []
        self.alarm.wake(asleep, news)


def _frame(event: str, number: int | None, data: Any) -> Frame:
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + to_json(data, inf_nan_mode="null") + b"\n\n"
