"""The bootstrap interval of a mean: near what theory says, repeatable, and an answer for small and for equal values."""

import numpy as np
import pytest

from jobs.training import interval


def test_of_many_normal_values_it_is_what_theory_says() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)

    low, high = interval.of_mean(values.tolist()) or (0.0, 0.0)

    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 8)


def test_the_same_values_and_seed_give_the_same_interval() -> None:
    values = [1.0, 4.0, 2.0, 9.0, 3.0]

    assert interval.of_mean(values, 7) == interval.of_mean(values, 7) != interval.of_mean(values, 8)


@pytest.mark.parametrize(("values", "found"), [([], None), ([3.0], None), ([3.0, 3.0, 3.0], (3.0, 3.0))])
def test_few_values_and_equal_ones(values: list[float], found: tuple[float, float] | None) -> None:
    assert interval.of_mean(values) == found


def test_two_values_have_an_interval_that_is_finite() -> None:
    low, high = interval.of_mean([1.0, 2.0]) or (0.0, 0.0)

    assert 1.0 <= low <= 1.5 <= high <= 2.0
