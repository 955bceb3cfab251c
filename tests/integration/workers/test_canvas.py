"""Celery's canvas over the ledger, in the combinations where parts are empty, nested, alone or end badly."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from sqlalchemy import func, select

from db.engine import session
from db.job import Job
from tests.jobs import add, echo, fail, keyed, nothing, total

pytestmark = pytest.mark.usefixtures("worker")

CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "a chain of one": (lambda: chain(add.s(1)), 2),
    "a chain of chains": (lambda: chain(chain(add.s(1), add.s(2)), chain(add.s(3), add.s(4))), 11),
    "a chain that ends in a group": (lambda: chain(add.s(1), group(add.s(1), add.s(2))), [3, 4]),
    "a chain that begins with a group": (lambda: chain(group(add.s(1), add.s(2)), total.s()), 5),
    "a chain with two groups": (lambda: chain(group(add.s(1), add.s(2)), total.s(), group(add.s(1), add.s(2))), [6, 7]),
    "a group after a group": (
        lambda: chain(group(echo.s(1), echo.s(2)), group(total.s(), total.s()), total.s()), 6),
    "a group of chains": (lambda: group(chain(add.s(1), add.s(1)), chain(add.s(5), add.s(1))), [3, 7]),
    "a group of groups": (lambda: group(group(add.s(1), add.s(2)), add.s(3)), [2, 3, 4]),
    "a group of one": (lambda: group(add.s(1)), [2]),
    "an empty group": (lambda: group(), []),
    "a chord of one": (lambda: chord([add.s(1)], total.s()), 2),
    "an empty chord": (lambda: chord([], total.s()), 0),
    "a chord with a chain in its header": (lambda: chord([chain(add.s(1), add.s(1)), add.s(9)], total.s()), 13),
    "a chord with a group in its header": (lambda: chord([group(add.s(1), add.s(2)), add.s(9)], total.s()), 15),
    "a chord in a chord's header": (lambda: chord([chord([add.s(1), add.s(2)], total.s()), add.s(9)], total.s()), 15),
    "a chord with a chain as body": (lambda: chord([add.s(1), add.s(2)], chain(total.s(), add.s(10))), 15),
    "a chord with a group as body": (lambda: chord([add.s(1), add.s(2)], group(total.s(), total.s())), [5, 5]),
    "a chord as a chord's body": (
        lambda: chord([echo.s(1), echo.s(2)], chord([total.s(), total.s()], total.s())), 6),
    "a chain of chords": (
        lambda: chain(chord([echo.s(1), echo.s(2)], total.s()), group(add.s(1), add.s(2)), total.s()), 9),
    "a countdown in the middle": (lambda: chain(add.s(1), add.s(1).set(countdown=0.1)), 3),
    "a body that is due later": (lambda: chord([add.s(1)], total.s().set(countdown=0.1)), 2),
    "plain values": (lambda: chain(echo.s({"a": [1, None, "ü"]}), echo.s()), {"a": [1, None, "ü"]}),
    "a link without a result": (lambda: chain(nothing.si(), echo.s()), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_gives_what_celery_gives(name: str) -> None:
    make, expected = CASES[name]

    assert make().delay().get(timeout=20) == expected


def test_a_canvas_can_be_applied_twice() -> None:
    work = chord([add.s(1), chain(add.s(1), add.s(1))], total.s())

    assert [each.get(timeout=20) for each in (work.delay(), work.delay())] == [5, 5]


def test_a_chain_goes_on_although_a_link_of_its_key_is_live_elsewhere(tmp_path: Any) -> None:
    live = keyed.apply_async(("same",), countdown=3600)

    assert chain(keyed.si("same"), echo.s()).delay().get(timeout=20) == "same"
    assert chain(echo.s(1), keyed.si("same")).delay().get(timeout=20) == "same"
    assert chord([keyed.si("same"), keyed.si("other")], echo.s()).delay().get(timeout=20) == ["same", "other"]
    assert live.state == "PENDING"


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: chord([bad, add.s(1)], chain(total.s(), add.s(1))),
        lambda bad: chord([chain(bad, add.s(1)), add.s(1)], total.s()),
        lambda bad: chord([chain(add.s(1), bad), add.s(1)], total.s()),
        lambda bad: chord([chord([bad], total.s()), add.s(1)], total.s()),
        lambda bad: chain(group(add.s(1), bad), total.s(), add.s(1)),
    ],
    ids=["chain as body", "first of a chain", "last of a chain", "inner chord", "group in a chain"],
)
def test_whoever_waits_for_a_chord_learns_of_a_part_that_failed(make: Callable[[Any], Any]) -> None:
    result = make(fail.si(permanent=True)).delay()

    with pytest.raises(ChordError, match="this can never work"):
        result.get(timeout=20, follow_parents=False, disable_sync_subtasks=False)


def test_a_link_that_refuses_its_input_is_recorded_as_failed() -> None:
    result = chain(echo.s("no number"), add.s(1), add.s(1)).delay()

    with pytest.raises(Exception, match='x="no number"'):
        result.get(timeout=20)


def test_cancelling_a_link_that_waits_ends_its_chain() -> None:
    first = add.si(1).set(countdown=3600)
    result = chain(first, add.s(1), add.s(1)).delay()

    result.parent.parent.revoke()

    with pytest.raises(Exception, match="REVOKED"):
        result.get(timeout=20, follow_parents=False)


def test_cancelling_a_part_fails_the_chord() -> None:
    work = chord([add.si(1).set(countdown=3600), add.si(1)], total.s())
    result = work.delay()

    result.parent.results[0].revoke()

    with pytest.raises(ChordError, match="REVOKED"):
        result.get(timeout=20, follow_parents=False)


def test_an_expired_part_fails_the_chord() -> None:
    result = chord([add.si(1).set(countdown=3600, expires=0.1), add.si(1)], total.s()).delay()

    with pytest.raises(ChordError, match="REVOKED"):
        result.get(timeout=20, follow_parents=False)


def test_a_countdown_delays_the_whole_chain() -> None:
    result = chain(add.si(1), add.s(1)).apply_async(countdown=3600)

    with session() as opened:
        (row,) = opened.scalars(select(Job))
        assert opened.scalar(select(Job.run_at > func.now() + func.make_interval(0, 0, 0, 0, 0, 50)))
    assert str(row.id) == result.parent.id
    assert row.state == "PENDING"
