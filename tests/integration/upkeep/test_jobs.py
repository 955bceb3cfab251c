"""The clean-up of jobs deletes old final ones of the kinds that are named, unless their result may yet be read."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text

from db import prune
from db.engine import autocommit, engine, session
from db.history import Tally
from db.job import Barrier, Job, JobEvent
from jobs.upkeep.tasks import clean_jobs
from tests.integration.recommend.running import run
from tests.jobs import add, keyed

pytestmark = pytest.mark.usefixtures("clean_db")


def ended(name: str, days_ago: float = 10, state: str = "SUCCESS", **values: Any) -> UUID:
    """A job that ended so long ago."""
    made = UUID(keyed.submit(name=name).id)
    with session() as opened:
        row = opened.get_one(Job, made)
        row.created_at = row.finished_at = func.now() - text(f"interval '{days_ago} days'")  # type: ignore[assignment]
        row.state = state
        for field, value in values.items():
            setattr(row, field, value)
    return made


def left() -> set[UUID]:
    with session() as opened:
        return set(opened.scalars(select(Job.id).where(Job.kind == keyed.name)))


def counted(tally: Tally | None = None) -> dict[Any, Any]:
    """What a process counts of the jobs of this kind; one that begins now, if no other is given."""
    with autocommit() as connection:
        found = (tally or Tally.of_transitions()).look(connection)
    return {key: values for key, values in found.items() if key[0] == keyed.name}


def test_old_final_jobs_of_a_kind_go_with_their_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "MOST", 2)
    for number in range(5):
        ended(f"old {number}", state=("SUCCESS", "FAILURE", "REVOKED")[number % 3])
    young, live = ended("young", days_ago=6), ended("live", state="PENDING")
    other = UUID(add.submit(x=1).id)
    running, before = Tally.of_transitions(), counted()
    for _ in range(2):
        running.settle(engine())

    result = run(clean_jobs, days={"tests.keyed": 7, "tests.nothing": 1})

    assert result == {"tests.keyed": 5, "tests.nothing": 0}
    assert left() == {young, live}
    with session() as opened:
        known = set(opened.scalars(select(JobEvent.job_id)))
        assert opened.get(Job, other) is not None
    assert {young, live, other} < known
    # A counter of Prometheus never falls, neither in a process that goes on nor in one that begins.
    assert counted() == counted(running)
    assert before.items() <= counted().items()
    assert len(known) == 4  # and the clean-up itself


def test_what_somebody_may_yet_read_stays() -> None:
    parent, group = ended("parent", state="STARTED"), uuid4()
    with session() as opened:
        opened.add(Barrier(group_id=group, size=2))
    kept = {
        ended("child", parent_id=parent), ended("grandchild", parent_id=uuid4(), root_id=parent),
        ended("of a chord", group_id=group), ended("before a link", canvas={"link": []}),
    }  # fmt: skip
    ended("followed", canvas={"link": []}, followed_at=func.now())

    assert run(clean_jobs, days={"tests.keyed": 7}) == {"tests.keyed": 1}
    assert left() == {parent, *kept}
