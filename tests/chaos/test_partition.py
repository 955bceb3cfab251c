"""Promise 14: a machine is cut off in the middle of a job; the job runs elsewhere, and the machine recovers by itself.

Needs root and the program ip: the machines are network namespaces.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import db.engine
import db.migrate
import db.settings
from tests.chaos.ledger import starts, submit_to_the_relay, wait_for_all
from tests.chaos.machines import Site
from tests.chaos.netns import Unavailable
from tests.chaos.outage_jobs import JOBS, wait
from tests.chaos.servers import until
from tests.jobs import nothing
from tests.rows import row

LEASE_S = 3.0


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Servers and a relay; this process asks the same ledger."""
    made = Site(tmp_path, GRISTMILL_LEASE_SECONDS=f"{LEASE_S:g}", GRISTMILL_JOBS=JOBS)
    try:
        made.start()
        monkeypatch.setenv("GRISTMILL_DATABASE_URL", made.local_url)
        forget_servers()
        db.migrate.upgrade()
        made.relay()
        yield made
    except Unavailable as error:
        pytest.skip(str(error))
    finally:
        monkeypatch.undo()
        forget_servers()  # Postgres stops when its clients are gone
        made.stop()


def forget_servers() -> None:
    db.engine.dispose()
    db.settings.settings.cache_clear()


def test_a_job_of_a_machine_that_is_cut_off_runs_elsewhere_and_the_machine_recovers(
    site: Site, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    workers = {name: site.worker(name) for name in ("one", "two")}
    for cut_s in (0, 20, 60) if full else (0,):  # at least until the job is done elsewhere
        go = tmp_path / f"go.{cut_s}"
        (job,) = submit_to_the_relay([(wait.name, {"go": str(go), "ended": str(tmp_path / "ended"), "report": False})])
        until(lambda job=job: row(job).state == "STARTED")
        cut, other = ("one", "two") if on(job, "one") else ("two", "one")

        site.network.cut(cut)
        cut_at = time.monotonic()
        until(lambda job=job: starts([job])[job] == 2)
        elsewhere = time.monotonic() - cut_at
        go.touch()
        wait_for_all([job], within_s=30)
        time.sleep(max(0.0, cut_at + cut_s - time.monotonic()))
        (next_one,) = submit_to_the_relay([(nothing.name, {})], queue=f"cpu.{cut}")
        site.network.heal(cut)
        healed_at = time.monotonic()
        workers[cut].wait_for("result_refused", timeout=60)
        refused = time.monotonic() - healed_at
        wait_for_all([next_one], within_s=90)
        recovered = time.monotonic() - healed_at

        assert starts([job, next_one]) == {job: 2, next_one: 1}
        assert row(job).state == "SUCCESS"
        assert on(job, other)
        figure(14, f"link cut for {healed_at - cut_at:.0f} s: the job runs elsewhere after {elsewhere:.1f} s (lease "
                   f"{LEASE_S:g} s); link healed: late result refused after {refused:.1f} s, next job done there after "
                   f"{recovered:.1f} s")  # fmt: skip


def test_a_machine_that_is_cut_off_within_a_transaction_does_not_hold_its_job_for_long(
    site: Site, tmp_path: Path, full: bool, figure: Callable[[int, str], None]
) -> None:
    if not full:
        pytest.skip("takes half a minute: run with --full")
    for name in ("one", "two"):
        site.worker(name)
    go = tmp_path / "go"
    (job,) = submit_to_the_relay([(wait.name, {"go": str(go), "ended": str(tmp_path / "ended"), "hold": True})])
    until(lambda: row(job).state == "STARTED")

    site.network.cut("one" if on(job, "one") else "two")
    cut_at = time.monotonic()
    until(lambda: starts([job])[job] == 2, within_s=90)
    elsewhere = time.monotonic() - cut_at
    go.touch()
    wait_for_all([job], within_s=30)

    assert elsewhere < 30
    figure(
        14, f"link cut within ctx.session(), whose lock Postgres holds: the job runs elsewhere after {elsewhere:.1f} s"
    )


def on(job: str, machine: str) -> bool:
    return (row(job).worker or "").startswith(machine)
