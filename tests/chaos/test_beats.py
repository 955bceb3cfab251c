"""Promise 12: several beats and relays at once, one of each killed every few seconds, and each tick is one job."""

import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from db.engine import session
from db.job import Job
from tests.chaos.ledger import starts, states
from tests.chaos.servers import redis_away, until
from tests.processes import Process, start_relay, start_worker
from workers.beat import tick_id

SEED = 20261122
ENTRIES = {"every-second": ("tests.nothing", 1), "every-two-seconds": ("tests.echo", 2)}  # as in every_second.py


def start_beat(home: Path) -> Process:
    celery = [sys.executable, "-m", "celery", "-A", "tests.chaos.every_second", "beat", "--pidfile=", "-l", "INFO"]
    beat = Process(celery, home)
    beat.wait_for("beat: Starting")
    return beat


def submitted(name: str) -> dict[UUID, datetime]:
    """The jobs of an entry, and when they were recorded."""
    with session() as opened:
        jobs = opened.scalars(select(Job).where(Job.kind == ENTRIES[name][0]))
        return {job.id: job.created_at for job in jobs}


def due(name: str, since_s: float, until_s: float) -> dict[UUID, datetime]:
    """The ticks of an entry, both ends included."""
    moments = [second for second in range(int(since_s), int(until_s) + 1) if second % ENTRIES[name][1] == 0]
    return {tick_id(name, at): at for at in (datetime.fromtimestamp(second, UTC) for second in moments)}


def up_to_date() -> bool:
    now = time.time()
    return all(set(due(name, now - 2, now - 1)) <= set(submitted(name)) for name in ENTRIES)


@pytest.mark.timeout(900)
def test_each_tick_is_one_job_whichever_beats_and_relays_are_killed(
    quiet: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    chance = random.Random(SEED)
    count, kills, pause_s = (3, 18, 10.0) if full else (2, 1, 3.0)
    worker = start_worker(quiet, concurrency=1)
    relays = [start_relay(quiet) for _ in range(count)]
    beats = [start_beat(quiet) for _ in range(count)]
    try:
        until(up_to_date)
        began = time.time() - 1
        for number in range(kills):
            if number == kills // 2:
                with redis_away(quiet):
                    time.sleep(pause_s)
            time.sleep(pause_s)
            for group, start in ((beats, start_beat), (relays, start_relay)):
                group.pop(chance.randrange(count)).kill()
                group.append(start(quiet))
        lived_until = time.time()
        while beats:
            beats.pop().kill()
        time.sleep(pause_s)  # nobody ticks: what starts next makes up for it
        beats.append(start_beat(quiet))
        until(up_to_date)
        ended = time.time() - 1
        beats.pop().kill()
        until(lambda: set(states()) == {"SUCCESS"}, within_s=60)
    finally:
        for process in [worker, *relays, *beats]:
            process.kill()

    late, made_up = [], 0
    for name in ENTRIES:
        found, expected = submitted(name), due(name, began, ended)
        assert set(expected) <= set(found), f"missed: {[str(at) for each, at in expected.items() if each not in found]}"
        assert set(found) <= set(due(name, began - 60, time.time()))  # no job but those of ticks
        assert set(starts([str(each) for each in found]).values()) == {1}
        late += [
            (found[each] - at).total_seconds() for each, at in expected.items() if at.timestamp() < lived_until - 1
        ]
        made_up += len([at for at in expected.values() if at.timestamp() > lived_until])
    figure(12, f"{count} beats and {count} relays for {lived_until - began:.0f} s, one of each killed {kills} times, "
               f"Redis away once (seed {SEED}): {len(late)} ticks, each one job that started once, at most "
               f"{max(late):.1f} s late; of {made_up} ticks while no beat lived none is missed")  # fmt: skip
