"""What fitted into a device is remembered for every process, for a day, and written into the job's row."""

from typing import Any

import pytest
import torch
from sqlalchemy import text

from db.engine import session
from db.job import Job as Row
from jobs.training import device
from jobs.training.memory import batcher
from tests.integration.recommend.running import claim
from tests.jobs import nothing
from workers.context import RunContext

pytestmark = pytest.mark.usefixtures("clean_db")

CPU = torch.device("cpu")
ASKED, ROOM = 64, 10


def job() -> tuple[list[int], dict[str, Any] | None]:
    """A job of 100 items where batches of more than ROOM do not fit: the sizes it tried, and its row's notes."""
    tried: list[int] = []

    def forward(part: range) -> None:
        tried.append(len(part))
        if len(part) > ROOM:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    claimed = claim(nothing)
    list(batcher(RunContext(claimed), "model", CPU).run(forward, range(100), ASKED))
    with session() as opened:
        return tried, opened.get_one(Row, claimed.id).notes


def test_the_next_job_begins_with_what_fitted_and_both_rows_say_so() -> None:
    facts = {"asked": 64, "fits": 8, "device": device.kind(CPU)}

    first, notes = job()
    assert first[:5] == [64, 32, 16, 8, 8]
    assert notes == {"batch of model": {**facts, "remembered": False}}

    second, notes = job()
    assert set(second) == {8, 4}  # 4: the rest of 100
    assert notes == {"batch of model": {**facts, "remembered": True}}


def test_another_kind_of_device_is_another_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    job()

    monkeypatch.setattr(device, "kind", lambda _: "NVIDIA B200, 180 GB")

    assert job()[0][0] == ASKED


def test_a_limit_is_forgotten_after_a_day() -> None:
    job()
    with session() as opened:
        opened.execute(text("UPDATE batch_limit SET at = now() - interval '25 hours'"))

    assert job()[0][:4] == [64, 32, 16, 8]
    with session() as opened:
        assert opened.execute(text("SELECT batch FROM batch_limit WHERE at > now() - interval '1 hour'")).scalar() == 8


def test_a_job_that_met_no_limit_notes_nothing() -> None:
    claimed = claim(nothing)

    assert list(batcher(RunContext(claimed), "model", CPU).run(len, range(5), 2)) == [2, 2, 1]

    with session() as opened:
        assert opened.get_one(Row, claimed.id).notes is None
        assert opened.execute(text("SELECT count(*) FROM batch_limit")).scalar() == 0


def test_a_single_item_does_not_even_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.training.memory.autocommit", None)

    assert list(batcher(RunContext(claim(nothing)), "model", CPU).run(len, range(1), 64)) == [1]
