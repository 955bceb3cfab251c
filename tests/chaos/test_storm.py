"""SIGKILL of pool processes, whole workers and relays at random under load: nothing is lost, no effect is doubled.

`python -m benchmarks.chaos` is the same storm at its full size, over stock Celery too.
"""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from db.settings import settings
from tests.chaos.gristmill import Gristmill
from tests.chaos.storm import Plan, Storm, batches, p99, script

LEASE_S = 3.0


def test_a_seed_decides_what_is_submitted_and_when_who_is_killed() -> None:
    one, again, other = Plan(1, 1000, 10), Plan(1, 1000, 10), Plan(2, 1000, 10)

    assert script(one) == script(again) != script(other)
    assert list(islice(batches(one), 50)) == list(islice(batches(again), 50)) != list(islice(batches(other), 50))
    assert len(script(one)) == 10
    assert [each.after for each in script(one)] == sorted(each.after for each in script(one))
    assert all(0 < each.after < 1000 for each in script(one))
    assert [item["serial"] for batch in islice(batches(one), 50) for item in batch][:100] == list(range(100))


def test_the_99th_percentile_of_few_is_the_worst_of_them() -> None:
    assert p99([3.0, 1.0, 2.0]) == 3.0
    assert p99([float(n) for n in range(1, 201)]) == 198.0
    assert p99([]) is None


@pytest.mark.timeout(3600)
def test_a_storm_of_kills_loses_no_job_and_doubles_no_effect(
    quiet: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    url = settings().postgres_url()
    plans = [Plan(seed, 10_000, 34, limit_s=900) for seed in (1, 2, 3)] if full else [Plan(9, 1000, 6, limit_s=600)]

    outcomes = [Storm(Gristmill(quiet, url, LEASE_S), plan, url, print).run() for plan in plans]

    for outcome in outcomes:
        assert outcome.in_time, str(outcome)
        assert outcome.verdict.clean, str(outcome)
        assert not outcome.fell, str(outcome)
        assert outcome.killed("worker", "child") == outcome.plan.kills, str(outcome)
        assert len(outcome.verdict.ok) == len(outcome.verdict.attempted) >= outcome.plan.jobs, str(outcome)
    kills = sum(each.killed("worker", "child") for each in outcomes)
    jobs = sum(len(each.verdict.ok) for each in outcomes)
    doubled = sum(len(each.verdict.runs_doubled) for each in outcomes)
    figure(1, f"{kills} SIGKILLs of workers and their processes, {jobs:,} jobs, {len(plans)} seed(s): 0 lost")
    figure(2, f"in that run: 0 effects committed twice, {doubled} runs doubled")
    if recovery_s := p99([one.seconds for each in outcomes for one in each.recoveries]):
        figure(
            4, f"in that run: jobs of killed workers run elsewhere after {recovery_s:.1f} s (p99, lease {LEASE_S:g} s)"
        )
