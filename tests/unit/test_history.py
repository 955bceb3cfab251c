"""The history checker: it finds every anomaly that it claims to find."""

from dataclasses import replace

import pytest

from tests.chaos.history import History, check

GOOD = History(
    attempted=[1, 2, 3],
    acknowledged=[1, 2, 3],
    runs=[1, 2, 3],
    effects=[3, 1, 2],
    states=[(1, "SUCCESS"), (2, "SUCCESS"), (3, "SUCCESS")],
)


def test_a_history_in_which_all_went_well_is_clean() -> None:
    verdict = check(GOOD)

    assert verdict.clean
    assert verdict.ok == {1, 2, 3}
    assert {name: count for name, count in verdict.counts().items() if count} == {
        "attempted": 3,
        "acknowledged": 3,
        "ok": 3,
    }


def test_a_job_that_failed_cleanly_without_an_effect_counts_as_lost() -> None:
    verdict = check(replace(GOOD, effects=[1, 2], states=[(1, "SUCCESS"), (2, "SUCCESS"), (3, "FAILURE")]))

    assert verdict.lost == {3}
    assert not verdict.unsettled
    assert not verdict.untrue
    assert not verdict.clean


def test_an_acknowledged_submission_of_which_nothing_is_known_is_lost_and_unsettled() -> None:
    verdict = check(replace(GOOD, runs=[1, 2], effects=[1, 2], states=[(1, "SUCCESS"), (2, "SUCCESS")]))

    assert verdict.lost == {3}
    assert verdict.unsettled == {3}
    assert not verdict.clean


def test_a_submission_that_was_not_acknowledged_and_took_effect_is_recovered_and_allowed() -> None:
    verdict = check(replace(GOOD, acknowledged=[1, 2]))

    assert verdict.recovered == {3}
    assert verdict.ok == {1, 2, 3}
    assert verdict.clean


def test_a_submission_that_was_not_acknowledged_and_left_no_trace_is_allowed() -> None:
    verdict = check(History([1, 2, 3], [1, 2], runs=[1, 2], effects=[1, 2], states=[(1, "SUCCESS"), (2, "SUCCESS")]))

    assert verdict.clean
    assert verdict.ok == {1, 2}


def test_an_effect_that_nobody_submitted_is_unexpected_and_not_ok() -> None:
    verdict = check(replace(GOOD, effects=[1, 2, 3, 9]))

    assert verdict.unexpected == {9}
    assert 9 not in verdict.ok
    assert not verdict.clean


def test_a_second_effect_is_duplicated_even_if_the_job_ran_once() -> None:
    verdict = check(replace(GOOD, effects=[1, 2, 2, 3]))

    assert verdict.duplicated == {2}
    assert not verdict.runs_doubled
    assert not verdict.clean


def test_a_second_run_without_a_second_effect_is_reported_and_allowed() -> None:
    verdict = check(replace(GOOD, runs=[1, 1, 1, 2, 3]))

    assert verdict.runs_doubled == {1}
    assert verdict.clean


@pytest.mark.parametrize("state", ["PENDING", "STARTED", "RETRY"])
def test_a_job_that_is_not_final_is_unsettled(state: str) -> None:
    verdict = check(replace(GOOD, states=[(1, "SUCCESS"), (2, state), (3, "SUCCESS")]))

    assert verdict.unsettled == {2}
    assert not verdict.clean


def test_a_job_whose_submission_was_not_acknowledged_must_end_all_the_same() -> None:
    verdict = check(
        replace(GOOD, acknowledged=[1, 3], effects=[1, 3], states=[(1, "SUCCESS"), (3, "SUCCESS"), (2, "PENDING")])
    )

    assert verdict.unsettled == {2}
    assert not verdict.clean


def test_a_serial_number_with_two_jobs_is_in_no_one_final_state() -> None:
    verdict = check(replace(GOOD, states=[*GOOD.states, (2, "SUCCESS")]))

    assert verdict.unsettled == {2}
    assert not verdict.clean


def test_success_without_an_effect_is_untrue() -> None:
    verdict = check(replace(GOOD, effects=[1, 3]))

    assert verdict.untrue == {2}
    assert verdict.lost == {2}
    assert not verdict.clean


def test_failure_with_an_effect_is_untrue() -> None:
    verdict = check(replace(GOOD, states=[(1, "SUCCESS"), (2, "FAILURE"), (3, "SUCCESS")]))

    assert verdict.untrue == {2}
    assert not verdict.lost
    assert not verdict.clean


def test_the_table_shows_counts_fractions_and_the_numbers_to_look_for() -> None:
    shown = str(check(replace(GOOD, effects=[1, 3, 3]))).splitlines()

    assert [line.split() for line in shown if line.startswith(("ok", "lost", "duplicated"))] == [
        ["ok", "2", "0.66667"],
        ["lost", "1", "0.33333", "2"],
        ["duplicated", "1", "0.33333", "3"],
    ]
