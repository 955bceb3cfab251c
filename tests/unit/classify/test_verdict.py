"""What a comparison says: intervals, the test of two models, the Pareto front, and the recommendation."""

from typing import Any

import pytest

from jobs.classify.verdict import Entry, front, mcnemar, recommend, wilson


def entry(model: str, accuracy: float, p50_ms: float, **facts: Any) -> Entry:
    given = {
        "role": "student", "form": "torch", "architecture": "", "lineage": "", "texts": 1000, "low": accuracy - 0.02,
        "high": accuracy + 0.02, "macro_f1": accuracy, "ece": 0.1, "p99_ms": 2 * p50_ms, "texts_per_s": 1.0,
        "disk_mb": 10.0, "memory_mb": None, "first_answer_s": None, "parameters": 1, "sparsity": 0.0, "flops": 1,
        "agreement": 1.0, "p_value": 0.01, "recalls": (),
    }  # fmt: skip
    return Entry(model=model, accuracy=accuracy, p50_ms=p50_ms, **given | facts)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


def test_mcnemars_exact_test_is_a_binomial_one() -> None:
    assert mcnemar(10, 0) == pytest.approx(2 / 2**10)
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 0) == 1
    assert mcnemar(3000, 2800) == pytest.approx(0.0089, abs=1e-3)


def test_the_front_has_those_that_nobody_beats_in_both() -> None:
    entries = [entry("right", 0.9, 20), entry("worse", 0.85, 25), entry("fast", 0.8, 1), entry("same", 0.8, 1),
               entry("as right", 0.9, 21)]  # fmt: skip

    assert front(entries) == [True, False, True, True, False]


def test_the_recommendation_names_the_best_within_each_time() -> None:
    entries = [entry("teacher@1", 0.9, 20, disk_mb=98.0), entry("int8@1", 0.896, 4, disk_mb=25.0, p_value=0.4),
               entry("student@2", 0.87, 0.4, disk_mb=2.0)]  # fmt: skip

    said = recommend(entries, entry("baseline", 0.88, 0.2))

    assert said[0].startswith("most accurate: teacher@1, 90.0 % (88.0-92.0), p50 20.00 ms")
    assert said[1].startswith("for CPU below 1 ms: student@2, 87.0 %")
    assert said[1].endswith("; 3.0 points behind teacher@1")
    assert said[2].startswith("for CPU below 5 ms: int8@1")
    assert said[2].endswith("; 0.4 points behind teacher@1, which may be chance")
    assert said[3].startswith("for CPU below 20 ms: teacher@1")
    assert said[4:] == [
        "smallest within 0.5 points of the most accurate: int8@1, 25.0 MB",
        "no better than the baseline (88.0 %): student@2",
    ]


def test_a_time_that_no_model_keeps_is_said() -> None:
    said = recommend([entry("teacher@1", 0.9, 3)])

    assert said[1] == "for CPU below 1 ms: no model here answers that fast"
    assert said[2].startswith("for CPU below 5 ms: teacher@1")
    assert len(said) == 3
