"""Bodies that end in unusual ways: their jobs end all the same, and say why."""

import re
from typing import Any

import pytest

from tests import jobs
from tests.rows import row, starts

pytestmark = pytest.mark.usefixtures("worker")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("returns NaN", "not JSON"),
        ("returns an object", "not JSON"),
        ("returns NUL", "NUL"),
        ("returns half a surrogate pair", "surrogate"),
    ],
)
def test_a_result_that_cannot_be_stored_fails_the_job_at_once(how: str, said: str) -> None:
    result = jobs.odd.submit(how=how)

    with pytest.raises(Exception, match=said):
        result.get(timeout=20)
    assert starts(result.id) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises NUL", "a.*b"),
        ("raises a huge message", "xxx"),
        ("raises with two arguments", "one two"),
        ("raises without a message", "Unspeakable"),
        ("exits", "exit"),
    ],
)
def test_an_odd_error_is_kept_and_tried_again(how: str, said: str) -> None:
    result = jobs.odd.submit(how=how)

    result.get(timeout=20, propagate=False)
    assert (row(result.id).state, starts(result.id)) == ("FAILURE", 2)
    error = row(result.id).error
    assert error is not None
    assert re.search(said, error["message"])
    assert len(error["message"]) < 20_000


@pytest.mark.parametrize(("how", "expected"), [("returns a backslash", r"a\u0000b"), ("reports NUL", "reported")])
def test_what_only_looks_odd_succeeds(how: str, expected: Any) -> None:
    assert jobs.odd.submit(how=how).get(timeout=20) == expected


def test_progress_and_a_session_within_a_session_do_not_wait_for_themselves() -> None:
    assert jobs.inside.submit().get(timeout=25) == 1


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [3, 4]),
        ({"empty": True}, []),
        ({"nested": True}, [[], [3, 4]]),
        ({"failing": True}, [["FAILURE", "JobError"], ["SUCCESS", 1]]),
    ],
    ids=["two stages", "no children", "a fan-out of fan-outs", "a child that fails"],
)
def test_fan_outs(params: dict[str, bool], expected: Any) -> None:
    assert jobs.stages.submit(**params).get(timeout=30) == expected
