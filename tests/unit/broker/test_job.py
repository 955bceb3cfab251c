"""Declaring a job: every mistake is an error at import that names the value and the remedy."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import chain, chord
from pydantic import Field

from broker.errors import InvalidParams, UnknownJob
from broker.job import Job, Params, declared, find, job
from broker.queues import NAMING
from broker.settings import settings


class Two(Params):
    """Two numbers."""

    x: int
    y: int = Field(1, ge=0)


def declare(kind: str = "unit.bad", **options: Any) -> Job:
    def body(ctx: object, params: Two) -> None: ...

    return job(kind, **{"params": Two, "queue": "cpu", **options})(body)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"queue": "gppu"}, "unit.bad: queue='gppu' is of no known class: begin it with one of gpu, cpu"),
        ({"priority": "high"}, "unit.bad: priority='high': use one of interactive, normal, bulk"),
        ({"max_attempts": 0}, "unit.bad: max_attempts=0: a job starts at least once"),
        ({"backoff": -1}, "unit.bad: backoff=-1: give seconds, 0 or more"),
        ({"time_limit": 0}, "unit.bad: time_limit=0: give seconds, or None for no limit"),
        ({"key": "{z}"}, "unit.bad: key='{z}' names 'z', which is no field of Two"),
        ({"batch": 1}, "unit.bad: batch=1: give 2 jobs or more, or leave it away"),
        (
            {"batch": 8, "max_attempts": 1},
            "unit.bad: batch=8 with max_attempts=1: a job whose batch fails is tried again",
        ),
        ({"batch_by": ("x",)}, "unit.bad: batch_by=('x',) without batch: say how many jobs run together"),
        ({"batch": 8, "batch_by": ("z",)}, "unit.bad: batch_by names 'z', which is no field of Two"),
        ({"key": "{}"}, "unit.bad: key='{}' names '', which is no field of Two"),
    ],
)
def test_a_bad_option_fails_at_import(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)):
        declare(**options)


def test_an_unknown_option_fails_at_import() -> None:
    with pytest.raises(TypeError, match="retries"):
        declare(retries=3)


def test_a_body_takes_a_context_and_parameters() -> None:
    def body(params: Two) -> None: ...

    with pytest.raises(TypeError, match=r"unit\.bad: body must take \(ctx, params\)"):
        job("unit.bad", params=Two, queue="cpu")(body)


def test_a_kind_is_declared_once() -> None:
    def first(ctx: object, params: Two) -> None: ...

    def second(ctx: object, params: Two) -> None: ...

    job("unit.once", params=Two, queue="cpu")(first)
    with pytest.raises(ValueError, match=r"unit\.once is declared twice, by .*first in .* and by .*second in "):
        job("unit.once", params=Two, queue="cpu")(second)


def test_a_module_that_is_imported_twice_declares_its_jobs_once() -> None:
    """A script is __main__, and its workers' import of it has its name."""

    def body(ctx: object, params: Two) -> None: ...

    job("unit.twice", params=Two, queue="cpu")(body)
    body.__module__ = "__main__"

    assert job("unit.twice", params=Two, queue="cpu")(body).name == "unit.twice"


def test_a_declared_job_is_found_by_its_kind_and_its_body_is_the_plain_function() -> None:
    declare("unit.found", key="{x:03d}")

    assert "unit.found" in declared()
    assert find("unit.found").body(None, Two(x=1)) is None
    with pytest.raises(UnknownJob, match=r"unknown job 'unit\.fund': did you mean unit\.found"):
        find("unit.fund")


def test_what_a_submission_records() -> None:
    task = declare("unit.recorded", key="{x:03d}", queue="gpu.edit", time_limit=5, max_attempts=7, backoff=3)

    new = task.new(Two(x=4), priority=4)

    assert (new.kind, new.queue, new.priority, new.key) == ("unit.recorded", "gpu.edit", 3, "unit.recorded:004")
    assert (new.params, new.time_limit_s, new.max_attempts, new.backoff_s) == ({"x": 4, "y": 1}, 5, 7, 3)


def test_what_may_run_in_one_batch_is_recorded_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    task = declare("unit.batched", batch=8, batch_by=("y",))

    assert task.new(Two(x=1)).batch == task.new(Two(x=2)).batch == "unit.batched:[1]"
    assert task.new(Two(x=1, y=2)).batch == "unit.batched:[2]"
    assert task.new(Two(x=1), max_attempts=1).batch is None
    assert declare("unit.single").new(Two(x=1)).batch is None
    monkeypatch.setattr(settings(), "batching", False)
    assert task.new(Two(x=1)).batch is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"queue": "cppu"}, f"queue='cppu' is of no known class: {NAMING}"),
        ({"queue": "cpu.a\x06\x163"}, f"queue='cpu.a\\x06\\x163' is of no known class: {NAMING}"),
        ({"time_limit": -1}, "time_limit=-1: give seconds, more than 0, or leave it away"),
        ({"time_limit": float("nan")}, "time_limit=nan: give seconds, more than 0, or leave it away"),
        ({"time_limit": "5"}, "time_limit='5': give seconds, more than 0, or leave it away"),
        ({"countdown": 1e300}, "1e+300 is no point in time: use a datetime, ISO 8601 or a number of seconds"),
        ({"task_id": "mine"}, "'mine' is no job id: use a UUID, or leave the id away"),
        ({"eta": "tomorrow"}, "'tomorrow' is no point in time: use a datetime, ISO 8601 or a number of seconds"),
        ({"priority": "soon"}, "priority='soon': use one of interactive, normal, bulk"),
    ],
)
def test_a_bad_option_of_a_submission_is_refused_before_anything_is_asked(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        declare("unit.refusing").apply_async((1,), **options)

    assert str(refused.value) == line


HUGE = "x" * 1_000_000


@pytest.mark.parametrize(
    "options",
    [{"queue": f"cpu.{HUGE}"}, {"task_id": HUGE}, {"eta": HUGE}, {"priority": HUGE}, {"owner": HUGE},
     {"parent_id": HUGE}, {"expires": HUGE}, {"max_attempts": HUGE}, {"nonsense": HUGE}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_an_option_of_absurd_length_is_refused_in_one_short_line(options: dict[str, Any]) -> None:
    with pytest.raises((InvalidParams, TypeError)) as refused:
        declare("unit.refusing").apply_async((1,), **options)

    assert len(str(refused.value)) < 250


def test_a_chain_without_end_is_refused_before_anything_is_recorded() -> None:
    task = declare("unit.refusing")
    long = chain(task.si(10**2000) for _ in range(3000))
    deep = task.si(1)
    for _ in range(60):
        deep = chord([task.si(1), chain(task.si(1), deep)], task.si(2))

    with pytest.raises(InvalidParams, match=r"what follows it of .* bytes: the limit is 4,194,304"):
        long.apply_async()
    with pytest.raises(InvalidParams, match=r"levels deep|nested too deeply"):
        chain(task.si(1), deep).apply_async()


def test_an_unknown_kind_of_absurd_length_is_shown_shortened() -> None:
    with pytest.raises(UnknownJob) as refused:
        find(HUGE)

    assert HUGE not in str(refused.value)


@pytest.mark.parametrize(
    "at",
    [
        datetime(2030, 1, 1, 12),
        datetime(2030, 1, 1, 12, tzinfo=UTC),
        "2030-01-01T13:00:00+01:00",
        "2030-01-01T12:00Z",
    ],
)
def test_a_moment_without_a_zone_is_utc(at: object) -> None:
    from broker.job import _moment

    assert _moment(at) == datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_seconds_are_from_now() -> None:
    from broker.job import _moment

    now = datetime.now(UTC)
    for moment in (_moment(None, 60), _moment(60)):
        assert moment is not None
        assert timedelta(seconds=59) < moment - now < timedelta(seconds=70)
    assert _moment(None) is None


def test_a_queue_may_be_kombus_own() -> None:
    from broker.job import _queue

    assert _queue(SimpleNamespace(name="gpu.edit")) == "gpu.edit"
