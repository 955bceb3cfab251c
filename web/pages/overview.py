"""`/`: what is queued, running, done and failed, by queue, kind and worker, and how much ended when."""

import threading
import time
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Query, Request, Response

from broker.queues import QUEUES
from broker.settings import settings
from db import vitals
from db.board import Bin, Board, board
from db.engine import session
from db.vitals import Depth
from web.pages.entry import Reader
from web.pages.frame import page, pages
from web.routes.health import redis_now

router = pages()

STEPS = {1: (60, 60), 6: (300, 72), 24: (1200, 72)}  # of the plot: hours to the seconds of a bar, and how many
_HEIGHT, _BAR = 100.0, 10.0  # in the plot's own units
_LATE_S = 30.0  # a relay sends what is due within a second or so


@dataclass(frozen=True)
class Overview:
    """What the page shows."""

    board: Board
    depths: list[Depth]
    workers: dict[str, int]  # by queue, that run something of it now and are heard of
    overdue: int
    unsent_s: float
    cancelling: int
    redis_away: bool


class _Lately:
    """The overview of a few seconds ago, for all who look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[float, Overview]] = {}

    def read(self, hours: int) -> Overview:
        with self._lock:
            until, found = self._kept.get(hours, (0.0, None))
            if found is None or time.monotonic() >= until:
                began = time.monotonic()
                found = _read(hours)
                now = time.monotonic()
                # Where there is much to read, it is read seldom.
                self._kept[hours] = now + max(1.0, 10 * (now - began)), found
            return found

    def forget(self) -> None:
        self._kept.clear()


lately = _Lately()


@router.get("/")
def show_overview(
    request: Request, who: Reader, asked: Annotated[Literal["1", "6", "24"], Query(alias="hours")] = "6"
) -> Response:
    """How everything is doing."""
    hours = int(asked)
    found = lately.read(hours)
    most = max((each.done + each.failed + each.cancelled for each in found.board.bins), default=0)
    return page(
        request, "overview.html", hours=hours, choices=list(STEPS), now=found, board=found.board, most=most,
        bars=_bars(found.board.bins, most), width=_BAR * len(found.board.bins), height=_HEIGHT,
        step_min=STEPS[hours][0] // 60, late=found.unsent_s > _LATE_S,
    )  # fmt: skip


def _read(hours: int) -> Overview:
    step_s, steps = STEPS[hours]
    lease_s = settings().lease_seconds
    with session() as opened:
        running = vitals.running(opened, lease_s)
        depths = vitals.depths(opened, settings().owner_window, queues=QUEUES)
        found = board(opened, step_s, steps, lease_s)
    return Overview(
        found, depths, {each.queue: each.workers for each in running}, sum(each.overdue for each in running),
        max((each.unsent_s or 0 for each in depths), default=0), sum(each.cancelling for each in running),
        redis_now() == "away",
    )  # fmt: skip


def _bars(bins: list[Bin], most: int) -> list[dict[str, float | str]]:
    """Rectangles, from the axis upwards: what was done, then what failed, then what was cancelled."""
    made: list[dict[str, float | str]] = []
    for place, each in enumerate(bins):
        top = _HEIGHT
        for name in ("done", "failed", "cancelled"):
            if count := getattr(each, name):
                tall = max(count / most * _HEIGHT, 1.5)
                top -= tall
                made.append({"x": place * _BAR + 1, "y": max(top, 0), "height": tall, "name": name})
    return made
