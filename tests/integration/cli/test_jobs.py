"""The command line over a real ledger and worker: submit, list, show, wait, cancel, retry, and what is refused."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from sqlalchemy import func, select

from broker.job import declared
from db import read
from db.engine import session
from db.job import Job
from tests import jobs
from tests.integration.cli.conftest import Gristmill
from tests.processes import ROOT

pytestmark = pytest.mark.usefixtures("worker")


def count() -> int:
    with session() as opened:
        return opened.scalar(select(func.count()).select_from(Job)) or 0


def test_submit_prints_the_id_of_a_job_that_runs(gristmill: Gristmill) -> None:
    done = gristmill("submit", "tests.add", "--x", "2", "--y", "40")

    assert done.code == 0
    assert jobs.add.AsyncResult(done.out.strip()).get(timeout=30) == 42


def test_submit_and_wait_prints_the_result(gristmill: Gristmill) -> None:
    done = gristmill("submit", "tests.total", "--numbers", "1", "--numbers", "2", "--wait", "--json")

    assert (done.code, done.data["state"], done.data["result"]) == (0, "SUCCESS", 3)
    assert done.data["params"] == {"numbers": [1, 2]}


def test_submit_takes_a_queue_a_priority_and_a_delay(gristmill: Gristmill) -> None:
    options = ("--queue", "gpu.none", "--priority", "bulk", "--in", "3600")
    job_id = gristmill("submit", "tests.add", "--x", "2", *options, "--json").data["id"]

    shown = gristmill("show", job_id, "--json").data
    assert (shown["queue"], shown["priority"], shown["state"]) == ("gpu.none", 6, "PENDING")
    assert "due in 60 min" in gristmill("jobs").out


def test_the_help_of_a_kind_shows_its_parameters(gristmill: Gristmill) -> None:
    said = gristmill("submit", "tests.step", "--help").out

    assert "Report progress until the file `go` exists." in said
    assert "--go" in said
    assert "[required]" in said
    assert "[default: 60" in said


def test_the_help_of_submit_lists_every_declared_job(gristmill: Gristmill) -> None:
    said = gristmill("submit", "--help").out

    assert all(f" {kind} " in said for kind in declared())


def test_the_same_live_work_is_named_and_not_added(gristmill: Gristmill, tmp_path: Path) -> None:
    first = gristmill("submit", "tests.keyed", "--name", "a", "--in", "600").out.strip()
    second = gristmill("submit", "tests.keyed", "--name", "a")

    assert second.out.strip() == first
    assert f"live already as {first}" in second.err
    assert count() == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("submit tests.ad --x 1", "unknown job 'tests.ad': did you mean tests.add"),
        ("submit tests.add --x one", 'tests.add: x="one": input should be a valid integer'),
        ("submit tests.add --x 1 --z 2", "No such option: --z"),
        ("submit tests.add", "Missing option '--x': see `gristmill submit tests.add --help`"),
        (
            "submit tests.add --x 1 --x 2",
            "--x is given 2 times, and holds one value: leave one: see `gristmill submit tests.add --help`",
        ),
        ("submit tests.add --x 1 --in 5 --in 6", "--in is given 2 times, and holds one value: leave one"),
        (
            "submit classify.predict --text a --text b",
            "--text is given 2 times, and holds one value: leave one, or rep",
        ),
        ("jobs --limit 1 --limit 2", "--limit is given 2 times, and holds one value: leave one"),
        ("cache cleanup --days 1 --days 2", "--days is given 2 times, and holds one value: leave one"),
        ("submti", "No such command 'submti'. Did you mean 'submit'? See `gristmill --help`"),
        ("submit tests.add --x 1 --queue tpu", "queue='tpu' is of no known class: begin it with one of gpu, cpu"),
        ("submit tests.add --x 1 --priority high", "priority='high': use one of interactive, normal, bulk"),
        ("submit tests.add --x 1 --in=-5", "--in -5: not a time that will come"),
        ("submit tests.add --x 1 --in nan", "--in nan: not a time that will come"),
        ("jobs --state DONE", "unknown state 'DONE': use one of PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED"),
        ("jobs --kind tests.ad", "unknown job 'tests.ad': did you mean tests.add"),
        ("jobs --queue tpu", "unknown queue 'tpu': queues begin with one of gpu, cpu"),
        ("jobs --limit 0", "Invalid value for '--limit'"),
        ("show 00000000", "no job has the id '00000000': `gristmill jobs` lists the newest"),
        ("wait abc", "'abc' is no job id: give an id of `gristmill jobs`, or its first 8 characters"),
        ("cancel 00000000-0000-0000-0000-000000000000", "no job has the id '00000000-0000-0000-0000-000000000000'"),
        ("retry nothing-of-this", "'nothing-of-this' is no job id"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_nothing_recorded(
    gristmill: Gristmill, arguments: str, line: str
) -> None:
    done = gristmill(*arguments.split())

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"gristmill: {line}")
    assert count() == 0


def test_jobs_are_filtered_by_state_kind_and_queue(gristmill: Gristmill) -> None:
    gristmill("submit", "tests.add", "--x", "1", "--wait")
    gristmill("submit", "tests.fail", "--permanent", "--wait")
    gristmill("submit", "tests.nothing", "--queue", "gpu.none")

    def kinds(*filters: str) -> list[str]:
        return [each["kind"] for each in gristmill("jobs", "--json", *filters).data]

    assert kinds() == ["tests.nothing", "tests.fail", "tests.add"]
    assert kinds("--state", "failure") == ["tests.fail"]
    assert kinds("--kind", "tests.add") == ["tests.add"]
    assert kinds("--queue", "gpu.none") == ["tests.nothing"]
    assert kinds("--limit", "1") == ["tests.nothing"]
    assert kinds("--state", "RETRY") == []
    assert "this can never work" in gristmill("jobs").out


def test_queues_are_measured_from_the_ledger_and_listed_also_when_they_are_idle(
    gristmill: Gristmill, tmp_path: Path
) -> None:
    idle = gristmill("queues", "--json").data
    jobs.nothing.apply_async(queue="gpu.none")
    jobs.nothing.apply_async(queue="gpu.none", countdown=60)
    result = jobs.fan_steps.submit(n=1, go=str(tmp_path / "go"))
    while not gristmill("jobs", "--kind", "tests.step", "--state", "STARTED", "--json").data:
        pass

    assert [(each["queue"], each["waiting"], each["running"], each["oldest_s"]) for each in idle] == [
        ("cpu", 0, 0, None), ("gpu", 0, 0, None)
    ]  # fmt: skip
    cpu, gpu, none = gristmill("queues", "--json").data
    assert (cpu["queue"], cpu["waiting"], cpu["suspended"], cpu["running"]) == ("cpu", 0, 1, 1)
    assert (none["queue"], none["waiting"], none["later"], none["running"]) == ("gpu.none", 1, 1, 0)
    assert none["oldest_s"] >= 0
    assert gpu == idle[1]
    (tmp_path / "go").touch()
    assert result.get(timeout=30) == 1


def test_jobs_are_filtered_by_owner_and_the_window_of_one_holds_the_others_back(gristmill: Gristmill) -> None:
    for _ in range(18):
        jobs.nothing.apply_async(queue="gpu.none", owner="ann")
    jobs.nothing.apply_async(queue="gpu.none", owner="ben")

    listed = gristmill("jobs", "--owner", "ben", "--json").data
    assert [each["owner"] for each in listed] == ["ben"]
    assert len(gristmill("jobs", "--owner", "ann", "--json").data) == 18
    assert gristmill("jobs", "--owner", "eve").out == "no jobs\n"
    assert gristmill("show", listed[0]["id"]).out.count("ben") == 1
    depth = next(each for each in gristmill("queues", "--json").data if each["queue"] == "gpu.none")
    assert (depth["waiting"], depth["held"], depth["unsent"]) == (17, 2, 0)


def test_show_tells_history_error_and_traceback_by_the_first_characters_of_an_id(gristmill: Gristmill) -> None:
    failed = gristmill("submit", "tests.fail", "--wait", "--json")

    assert failed.code == 1
    shown = gristmill("show", failed.data["id"][:8])
    assert "ValueError: attempt 3 went wrong" in shown.out
    assert "Traceback (most recent call last)" in shown.out
    assert "3 of 3" in shown.out
    moves = [event["to_state"] for event in gristmill("show", failed.data["id"][:8], "--json").data["history"]]
    assert moves == ["PENDING", "STARTED", "RETRY", "STARTED", "RETRY", "STARTED", "FAILURE"]


def test_the_own_word_of_a_job_is_shown_without_a_traceback_unless_asked_for(gristmill: Gristmill) -> None:
    failed = gristmill("submit", "tests.fail", "--permanent", "--wait", "--json").data["id"]
    shown, whole = gristmill("show", failed).out, gristmill("show", failed, "--traceback").out

    assert shown.count("this can never work: do something else") == 2  # in its history, and as how it ended
    assert shown.endswith("\nJobError: this can never work: do something else\n")
    assert "Traceback (most recent call last)" not in shown
    assert "Traceback (most recent call last)" in whole


def test_show_tells_what_the_run_noted(gristmill: Gristmill) -> None:
    done = gristmill("submit", "tests.odd", "--how", "notes", "--wait", "--json")

    assert done.data["notes"] == {"batch": {"from": 8, "to": 4}}
    assert '{"batch": {"to": 4, "from": 8}}' in gristmill("show", done.data["id"]).out


def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    """What the command line prints on a terminal so wide."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "TERM": "xterm"}
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "workers", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        said = b""
        try:
            while chunk := os.read(ours, 65536):
                said += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    return said.decode().splitlines()


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_shows_each_job_on_one_line_that_fits_it(gristmill: Gristmill, columns: int) -> None:
    gristmill("submit", "tests.fail", "--permanent", "--wait")

    head, line = on_a_terminal(columns, "jobs")
    assert len(line.rstrip()) <= columns
    assert ("queue" in head, "took" in head) == (columns == 200, columns == 200)
    assert line.split()[1:3] == ["tests.fail", "FAILURE"]
    assert line.rstrip().endswith("…" if columns == 60 else "this can never work: do something else")


def test_a_pipe_gets_each_job_on_one_whole_line(gristmill: Gristmill) -> None:
    gristmill("submit", "tests.fail", "--permanent", "--wait")

    _, line = gristmill("jobs").out.splitlines()
    assert line.endswith("this can never work: do something else")
    assert line.split()[1:5] == ["tests.fail", "FAILURE", "cpu", "1/3"]


def test_show_counts_the_children_of_a_fan_out(gristmill: Gristmill) -> None:
    done = gristmill("submit", "tests.fan", "--n", "3", "--wait", "--json")

    shown = gristmill("show", done.data["id"]).out
    assert "3 SUCCESS" in shown
    assert "1 of 3" in shown


def test_a_parent_that_waits_for_its_children_is_listed_and_its_pulse_is_theirs(
    gristmill: Gristmill, tmp_path: Path
) -> None:
    result = jobs.fan_steps.submit(n=2, go=str(tmp_path / "go"))
    while not gristmill("jobs", "--kind", "tests.step", "--json").data:
        pass

    assert "waits for its children" in gristmill("jobs", "--kind", "tests.fan_steps").out
    with session() as opened:
        now = read.pulse(opened, read.find(opened, result.id))
    assert (now.state, now.total, now.note) == ("PENDING", 2, "0 of 2 children")
    assert result.state == "PENDING"
    (tmp_path / "go").touch()
    assert gristmill("wait", result.id).code == 0


def test_wait_ends_with_the_job_and_tells_its_outcome(gristmill: Gristmill) -> None:
    good, bad = jobs.add.submit(x=1), jobs.fail.submit(permanent=True)

    assert "SUCCESS" in gristmill("wait", good.id).out
    again = gristmill("wait", good.id)
    assert again.out.startswith(f"tests.add {good.id} SUCCESS")
    assert again.err == ""  # nothing was waited for
    done = gristmill("wait", bad.id)
    assert done.code == 1
    assert "JobError: this can never work: do something else" in done.out


def test_wait_left_with_control_c_does_not_cancel(gristmill: Gristmill, tmp_path: Path) -> None:
    result = jobs.step.submit(go=str(tmp_path / "go"))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "workers", "wait", result.id], cwd=ROOT, text=True, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip
    try:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == f"waiting for tests.step {result.id}\n"
        while result.state != "STARTED":
            pass
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=30)
    finally:
        waiting.kill()

    assert waiting.returncode == 130
    assert f"gristmill wait {result.id}" in said
    assert result.state == "STARTED"
    (tmp_path / "go").touch()
    assert result.get(timeout=30) == "gone"


def test_cancel_ends_a_waiting_job_at_once_and_a_final_one_never_changes(gristmill: Gristmill) -> None:
    result = jobs.add.apply_async((1,), countdown=600)

    assert gristmill("cancel", result.id[:13], "--json").data == {"id": result.id, "state": "REVOKED"}
    again = gristmill("cancel", result.id)
    assert again.code == 1
    assert again.err == f"gristmill: job {result.id} is REVOKED already: there is nothing to cancel\n"


def test_cancel_asks_a_running_job_to_stop(gristmill: Gristmill, tmp_path: Path) -> None:
    result = jobs.step.submit(go=str(tmp_path / "never"))
    while result.state != "STARTED":
        pass

    assert "was asked to stop" in gristmill("cancel", result.id).out
    assert gristmill("wait", result.id).code == 1
    assert result.state == "REVOKED"


def test_retry_submits_a_final_job_again_and_refuses_a_live_one(gristmill: Gristmill) -> None:
    failed = gristmill("submit", "tests.fail", "--permanent", "--wait", "--json").data
    live = jobs.add.apply_async((1,), countdown=600)

    again = gristmill("retry", failed["id"], "--json").data
    assert again["id"] != failed["id"]
    after = gristmill("wait", again["id"], "--json").data
    assert (after["kind"], after["params"]) == ("tests.fail", failed["params"])
    assert json.dumps(gristmill("show", failed["id"], "--json").data) == json.dumps(failed)

    refused = gristmill("retry", live.id)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert f"job {live.id} is PENDING, and only final jobs are retried" in refused.err
