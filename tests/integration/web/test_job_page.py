"""A job's page: what it took over all its starts, which of these count, and what of it is shown at once."""

import io
import re
from typing import Any
from uuid import UUID

from rich.console import Console
from sqlalchemy import text
from starlette.testclient import TestClient

from db import ledger, read, registry
from db.engine import autocommit, session
from db.ledger import Claimed
from db.store import Stored
from tests import rows
from tests.integration.web.test_jobs import API, submit
from workers.cli.views.jobs import detail, outcome

_BEGUN_EARLIER = text("""
    WITH first AS (SELECT id FROM job_event WHERE job_id = :id AND to_state = 'STARTED' ORDER BY id LIMIT 1)
    UPDATE job_event SET at = at - interval '49 s' WHERE id IN (SELECT id FROM first)""")


def claimed(job_id: str) -> Claimed:
    with autocommit() as on:
        on.execute(text("UPDATE job SET run_at = now() WHERE id = :id"), {"id": job_id})
        found = ledger.claim(on, UUID(job_id), "cpu@here", 60)
    assert found
    return found


def told(job_id: str) -> tuple[str, str]:
    """What `show` and the end of `--wait` say."""
    out, brief = io.StringIO(), io.StringIO()
    with session() as opened:
        job = read.show(opened, job_id)
    detail(Console(file=out, width=160), job)
    outcome(Console(file=brief, width=160), job)
    return out.getvalue(), brief.getvalue()


def test_a_parent_took_as_long_as_since_its_first_start_and_what_was_given_back_is_no_attempt(
    client: TestClient,
) -> None:
    made = submit(client, params={"x": 1}, max_attempts=10).json()["id"]
    first = claimed(made)
    with autocommit() as on:
        assert ledger.suspend(on, first.id, first.attempt)
    waiting = client.get(f"/jobs/{made}").text
    second = claimed(made)
    with autocommit() as on:
        assert ledger.hand_over(on, second.id, second.attempt)
    third = claimed(made)
    with autocommit() as on:
        ledger.succeed(on, third.id, third.attempt, {"sum": 2, "told": "well", "parts": [1, 1]})
        on.execute(_BEGUN_EARLIER, {"id": made})

    page, listed = client.get(f"/jobs/{made}").text, client.get("/jobs").text
    shown, ended = told(made)
    attempts = client.get(f"{API}/jobs/{made}/attempts").json()

    assert "1 of 10" in waiting
    assert '<dd>1 of 10 <span class="soft">in 3 starts</span></dd>' in page
    assert re.findall(r'<tr><th scope="row">(\d)</th>', page) == ["1", "1", "1"]
    assert page.count("waited for its children") == page.count("handed over") == 1
    assert [each["number"] for each in attempts] == [1, 1, 1]
    assert [each["spared"] for each in attempts] == ["waited for its children", "handed over", None]
    assert re.search(r'<dd>49 s, <span class="soft">of which 0\.\d s at work</span></dd>', page)
    assert '<td class="minor">49 s</td>' in listed
    assert re.search(r"SUCCESS after 49 s, of which 0\.\d s at work", ended)
    assert re.search(r"took +49 s, of which", shown)
    assert re.search(r"PENDING +1 +cpu@here .* waited for its children", shown)


def test_a_cancelled_job_says_quietly_what_its_last_attempt_failed_of(client: TestClient) -> None:
    made = submit(client, "tests.fail", params={}).json()["id"]
    first = claimed(made)
    with autocommit() as on:
        ledger.fail(on, first.id, first.attempt, {"type": "WorkerLost", "message": "it was lost"}, permanent=False)
    retried = client.get(f"/jobs/{made}").text
    client.post(f"{API}/jobs/{made}/cancel")

    page = client.get(f"/jobs/{made}").text

    assert rows.row(made).state == "REVOKED"
    assert '<p class="banner bad"><strong>WorkerLost</strong>: it was lost</p>' in retried
    assert "banner bad" not in page
    assert "Its last attempt before the end failed with WorkerLost: it was lost" in page
    assert "its last attempt ended with WorkerLost: it was lost" in told(made)[1]


def test_parameters_that_differ_and_a_results_scalars_come_first_and_all_else_is_folded(client: TestClient) -> None:
    params: dict[str, Any] = {"training": {"epochs": 2}, "top_k": 7}
    made = submit(client, "recommend.refresh", params=params).json()["id"]
    plain = submit(client, params={"x": 1}).json()["id"]
    last = claimed(made)
    with autocommit() as on:
        result = {"decision": "version 2 is in use", "report": "ab" * 32, "train": {"version": 2}, "mean": 0.1 + 0.2}
        ledger.succeed(on, last.id, last.attempt, result)
    with session() as opened:
        registry.record(opened, Stored("ab" * 32, 1, {}), "weekly refresh", last.id)

    page, other = client.get(f"/jobs/{made}").text, client.get(f"/jobs/{plain}").text

    shown, folded = page.split("<h2>Parameters</h2>")[1].split("<summary>All of them, as JSON</summary>", 1)
    assert set(re.findall(r"<dt>(\w+)</dt>", shown)) == {"training", "top_k"}
    assert "anilist" in folded
    assert "<dt>decision</dt><dd>version 2 is in use</dd>" in page
    assert "<dt>train</dt>" not in page
    assert "<dt>mean</dt><dd>0.3</dd>" in page  # and not 0.30000000000000004
    assert '<dt>report</dt><dd><a href="/artifacts/abab' in page
    assert page.index("<h2>What it made</h2>") < page.index("<h2>Result</h2>")
    assert page.index("<h2>Result</h2>") < page.index("All of it, as JSON") < page.index("&#34;version&#34;: 2")
    assert "<dt>x</dt><dd>1</dd>" in other
    assert "<dt>y</dt>" not in other


def test_of_many_artifacts_the_newest_are_shown_and_the_others_folded(client: TestClient) -> None:
    made = submit(client, params={"x": 1}).json()["id"]
    for number in range(10):
        with session() as opened:
            registry.record(opened, Stored(f"{number:064}", 1, {}), f"part {number}", UUID(made))

    page = client.get(f"/jobs/{made}").text
    shown, folded = page.split("<details><summary>2 more artifacts</summary>")

    assert re.findall(r"part (\d)", shown) == ["9", "8", "7", "6", "5", "4", "3", "2"]
    assert re.findall(r"part (\d)", folded) == ["1", "0"]
