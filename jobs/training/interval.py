"""How sure a mean is: its bootstrap confidence interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
_ACCELERATED = 2000  # values; BCa's jackknife grows with their square, and beyond this the two methods agree
METHOD = (
    f"bootstrap of {RESAMPLES:,} resamples, BCa, from {_ACCELERATED:,} values on percentile "
    "(Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 14)"
)


def of_mean(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of the mean; None of fewer than two values. The same values and seed give the same interval.

    Of paired differences it is the paired bootstrap. For METHOD's source: sections 13.3 (percentile) and 14.3 (BCa).
    """
    # scipy.stats takes a second to import, and a report of no scores needs none of it
    if len(values) < 2:
        return None
    if min(values) == max(values):  # where BCa divides by zero
        return float(values[0]), float(values[0])
    method = "BCa" if len(values) < _ACCELERATED else "percentile"
    low, high = _interval(np.asarray(values, dtype=float), method, seed)
    if not np.isfinite([low, high]).all():  # BCa of two or three values, all resamples on one side
        low, high = _interval(np.asarray(values, dtype=float), "percentile", seed)
    return float(low), float(high)


def _interval(values: np.ndarray, method: str, seed: int) -> tuple[float, float]:
    import warnings

    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that BCa has no answer, which the caller sees
        found = stats.bootstrap(
            (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method=method,
            batch=64, rng=np.random.default_rng(seed),
        )  # fmt: skip
    return tuple(found.confidence_interval)
