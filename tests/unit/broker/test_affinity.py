"""Which queue comes next: staying pays, and no queue starves."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.affinity import StickyCycle


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def serve(cycle: StickyCycle, waiting: dict[str, int]) -> str | None:
    """Take one message as BRPOP does: from the first queue in order that has one."""
    for queue in cycle.consume(len(waiting)):
        if waiting[queue]:
            waiting[queue] -= 1
            return cycle.rotate(queue)
    return None


def test_a_worker_stays_on_a_queue_until_it_is_empty() -> None:
    cycle = StickyCycle(jobs=1000, seconds=1000)
    cycle.update(["a", "b", "c", "d"])
    waiting = dict.fromkeys("abcd", 100)

    served = [serve(cycle, waiting) for _ in range(400)]

    assert sum(one != other for one, other in pairwise(served)) == 3


def test_a_budget_of_jobs_ends_the_stay() -> None:
    cycle = StickyCycle(jobs=10, seconds=1000)
    cycle.update(["a", "b"])

    served = [serve(cycle, {"a": 1, "b": 1}) for _ in range(40)]

    assert "".join(filter(None, served)) == ("a" * 10 + "b" * 10) * 2


def test_a_budget_of_seconds_ends_the_stay() -> None:
    clock = Clock()
    cycle = StickyCycle(jobs=1000, seconds=60, clock=clock)
    cycle.update(["a", "b"])

    served = []
    for _ in range(8):
        served.append(serve(cycle, {"a": 1, "b": 1}))
        clock.now += 30

    assert served == ["a", "a", "a", "b", "b", "b", "a", "a"]


def test_an_urgent_job_of_another_queue_is_a_detour() -> None:
    cycle = StickyCycle(jobs=4, seconds=1000)
    cycle.update(["a", "b", "urgent"])

    served = []
    for _ in range(8):
        served.append(serve(cycle, {"a": 1, "b": 1, "urgent": 0}))
        cycle.rotate("urgent")  # taken by its priority, whatever the order says

    assert "".join(filter(None, served)) == "aaaabbbb"


def test_a_reconnect_does_not_end_the_stay() -> None:
    cycle = StickyCycle(jobs=100, seconds=100)
    cycle.update(["a", "b"])
    serve(cycle, {"a": 0, "b": 1})

    cycle.update(["a", "b"])

    assert cycle.consume(2) == ["b", "a"]


@given(st.integers(1, 20), st.integers(2, 6), st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=60))
def test_a_queue_that_waits_is_served_within_the_budgets_of_the_others(
    budget: int, queues: int, arrivals: list[list[int]]
) -> None:
    cycle = StickyCycle(jobs=budget, seconds=1e9)
    names = [str(number) for number in range(queues)]
    cycle.update(names)
    waiting = dict.fromkeys(names, 0)
    waits = dict.fromkeys(names, 0)

    for arriving in [*arrivals, *[[]] * 50]:
        for number in arriving:
            if str(number) in waiting:
                waiting[str(number)] += 1
        served = serve(cycle, waiting)
        for name in names:
            waits[name] = waits[name] + 1 if waiting[name] and served not in (None, name) else 0

        assert max(waits.values()) <= budget * (queues - 1)


def test_a_queue_that_is_not_ours_is_not_taken_in() -> None:
    cycle = StickyCycle(jobs=2, seconds=2)
    cycle.update(["a"])

    assert cycle.rotate("celery.pidbox") == "celery.pidbox"
    assert cycle.consume(1) == ["a"]


@pytest.mark.parametrize("name", ["broker.affinity:StickyCycle"])
def test_kombu_can_make_one_by_its_name(name: str) -> None:
    from kombu.utils.scheduling import cycle_by_name

    assert isinstance(cycle_by_name(name)(), StickyCycle)
