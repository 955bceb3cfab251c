"""`gristmill up` as a user runs it: started, looked at, killed, started again, stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
import pytest

import broker.embedded
import db.embedded
from db.place import gone

ROOT = Path(__file__).parents[2]
LOGIN = "miller:grist-and-flour"
pytestmark = pytest.mark.timeout(300)


class Gristmill:
    """The command line over one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        own = {name: value for name, value in os.environ.items() if not name.startswith("GRISTMILL_")}
        self.environment = {
            **own, "GRISTMILL_HOME": str(home), "GRISTMILL_JOBS": "tests.jobs", "GRISTMILL_FLOWER_AUTH": LOGIN,
            "GRISTMILL_LOG": "json", "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def __call__(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "workers", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
        )
        log = self.home / "log" / "up.log"
        assert done.returncode == 0, f"{done.stderr}\n{log.read_text() if log.exists() else ''}"
        return done.stdout

    def python(self, program: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.check_output(command, env=self.environment, cwd=ROOT, text=True, timeout=60).strip()

    def owner(self) -> psutil.Process:
        return psutil.Process(json.loads((self.home / "run" / "up.json").read_text())["pid"])

    def running(self) -> bool:
        try:
            return self.owner().is_running()
        except (OSError, psutil.Error):
            return False

    def row(self, job_id: str) -> tuple[Any, ...]:
        return self.sql("SELECT state, attempt FROM job WHERE id = %s", job_id)

    def sql(self, query: LiteralString, *values: str) -> tuple[Any, ...]:
        url = db.embedded.url(self.home)
        assert url is not None
        with psycopg.connect(url.replace("+psycopg", "", 1)) as connection:
            row = connection.execute(query, values).fetchone()
            assert row is not None
            return row


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gristmill]:
    """One home for the whole file: starting everything costs seconds."""
    command = Gristmill(tmp_path_factory.mktemp("up") / "home")
    yield command
    command("down")
    assert not db.embedded.running(command.home)
    assert not broker.embedded.running(command.home)


@pytest.fixture
def gristmill(home: Gristmill) -> Gristmill:
    """The command line with everything up, whatever the test before did to it."""
    if not home.running():
        with taken_flower_port():
            home("up", "--detach")
    return home


@contextmanager
def taken_flower_port() -> Iterator[None]:
    """Somebody else's Flower."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 5555))
            taken.listen()
        except OSError:
            pass  # it is taken anyway: so much the better
        yield


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The condition's first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return answer


def asking(url: str, login: str = LOGIN) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"Authorization": f"Basic {b64encode(login.encode()).decode()}"})


def page(url: str) -> str:
    try:
        with urllib.request.urlopen(asking(url), timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def refusal(url: str, login: str) -> int:
    """The status of the answer to a wrong login; 0 without any."""
    try:
        urllib.request.urlopen(asking(url, login), timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
    return 200


def flower_knows(gristmill: Gristmill, job_id: str, *said: str) -> bool:
    """Whether Flower's page of the job says these."""
    try:
        address = (gristmill.home / "run" / "flower.url").read_text()
    except OSError:
        return False
    shown = page(f"{address}/task/{job_id}")
    return all(each in shown for each in said)


def test_everything_starts_and_flower_shows_a_job_by_its_name(gristmill: Gristmill) -> None:
    checks = {check["name"]: check for check in json.loads(gristmill("doctor", "--json"))["checks"]}
    assert checks["queues"]["facts"]["without_worker"] == []

    address = until(lambda: (gristmill.home / "run" / "flower.url").read_text())
    assert address != "http://127.0.0.1:5555"
    assert until(lambda: refusal(f"{address}/tasks", "miller:water")) == 401
    until(lambda: "cpu@" in page(f"{address}/workers"))
    job_id = gristmill.python(
        "import tests.jobs as t; r = t.add.delay(x=1); assert r.get(timeout=30) == 2; print(r.id)"
    )
    until(lambda: flower_knows(gristmill, job_id, "tests.add", "cpu@"))

    metrics = page((gristmill.home / "run" / "metrics.url").read_text())
    assert 'gristmill_jobs_finished_total{kind="tests.add",state="SUCCESS"} 1.0' in metrics


def test_a_prediction_does_not_wait_behind_a_long_job(gristmill: Gristmill, tmp_path: Path) -> None:
    go = tmp_path / "go"

    answer = gristmill.python(f"""
import pathlib, tests.jobs as t
from workers.hardware import cores
busy = [t.step.delay(go={str(go)!r}) for _ in range(cores())]  # as many as the cpu worker may have processes
while busy[0].state != "STARTED": pass
print(t.add.apply_async(kwargs=dict(x=1), queue="cpu.predict").get(timeout=30))
print(busy[0].state)
pathlib.Path({str(go)!r}).touch()
for job in busy: job.get(timeout=30)""")

    assert answer.split() == ["2", "STARTED"]


def test_every_line_of_the_log_is_json_and_names_the_job_it_is_about(gristmill: Gristmill) -> None:
    job_id = gristmill.python("""
import tests.jobs as t
r = t.fail.delay(until_attempt=2); assert r.get(timeout=30) == 2; print(r.id)""")
    log = gristmill.home / "log" / "up.log"
    until(lambda: log.read_text().count(job_id) >= 4)

    lines = [json.loads(line) for line in log.read_text().splitlines() if line]
    assert {line["process"] for line in lines if "process" in line} >= {"cpu", "gpu", "relay", "beat", "flower"}
    about = [line for line in lines if line.get("job_id") == job_id]
    said = [(line["event"].split()[0], line["kind"], line.get("attempt")) for line in about]
    assert ("attempt_failed", "tests.fail", 1) in said
    # Celery's, of which the first comes before there is an attempt.
    assert said[0] == ("Task", "tests.fail", None)
    assert said[-1] == ("Task", "tests.fail", 2)
    assert sum(job_id in line for line in log.read_text().splitlines()) == len(about)


def test_a_killed_run_is_cleared_away_by_the_next(gristmill: Gristmill) -> None:
    owner = gristmill.owner()
    servants = owner.children(recursive=True)
    job_id = gristmill.python("import tests.jobs as t; print(t.add.delay(x=1).id)")

    owner.send_signal(signal.SIGKILL)
    assert gone(owner, 10)
    gristmill("up", "--detach")

    assert all(gone(servant, 30) for servant in servants)  # workers hand over what they have first
    until(lambda: gristmill.row(job_id)[0] == "SUCCESS")


def test_stopping_gives_a_running_job_back_and_the_next_run_finishes_it(gristmill: Gristmill, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job_id = gristmill.python(f"import tests.jobs as t; print(t.step.delay(go={str(go)!r}).id)")
    until(lambda: gristmill.row(job_id)[0] == "STARTED")

    gristmill("down")

    db.embedded.start(gristmill.home)
    assert gristmill.row(job_id)[0] in ("PENDING", "RETRY")
    go.touch()
    gristmill("up", "--detach")
    until(lambda: gristmill.row(job_id)[0] == "SUCCESS")
    before = gristmill.sql("SELECT id FROM job WHERE kind = 'tests.add' AND state = 'SUCCESS' LIMIT 1")
    until(lambda: flower_knows(gristmill, str(before[0]), "tests.add", "SUCCESS"))


@pytest.mark.parametrize(("server", "pid_file"), [("postgres", "postmaster.pid"), ("redis", "redis.pid")])
def test_an_embedded_server_that_dies_is_started_again(gristmill: Gristmill, server: str, pid_file: str) -> None:
    victim = psutil.Process(int((gristmill.home / server / pid_file).read_text().split()[0]))

    victim.send_signal(signal.SIGKILL)
    assert gone(victim, 10)

    until(lambda: db.embedded.running(gristmill.home) and broker.embedded.running(gristmill.home))
    job_id = gristmill.python("import tests.jobs as t; print(t.add.delay(x=1).id)")
    until(lambda: gristmill.row(job_id)[0] == "SUCCESS")


def test_a_second_up_of_the_same_home_says_who_is_running(gristmill: Gristmill) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "workers", "up"],
        env=gristmill.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert second.returncode == 2
    assert f"already running under {gristmill.home} (pid {gristmill.owner().pid})" in second.stderr
    assert gristmill.owner().is_running()
    assert f"already running under {gristmill.home}" in gristmill("up", "--detach")


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_module_of_jobs_that_is_not_there_is_named_before_anything_starts(detach: list[str], tmp_path: Path) -> None:
    environment = Gristmill(tmp_path).environment | {"GRISTMILL_JOBS": "shop.taks"}

    refused = subprocess.run(
        [sys.executable, "-m", "workers", "up", *detach],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("gristmill: GRISTMILL_JOBS=shop.taks: No module named 'shop")
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "postgres").exists()


def test_what_ended_first_is_named_and_not_what_was_stopped_for_it(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(
        """stays: sh -c 'trap "echo stopped; exit" TERM; sleep 60 & wait'
fails: sh -c 'echo no such module; exit 3'"""
    )
    environment = Gristmill(tmp_path / "home").environment | {"GRISTMILL_LOG": "text"}

    refused = subprocess.run(
        [sys.executable, "-m", "workers", "up", "--detach"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert refused.returncode == 2
    assert "`gristmill up` ended: fails ended at once: no such module: see " in refused.stderr


def test_ctrl_c_stops_everything_with_the_servers(tmp_path: Path) -> None:
    gristmill = Gristmill(tmp_path / "home")
    up = subprocess.Popen(
        [sys.executable, "-m", "workers", "up"],
        env=gristmill.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert up.stdout is not None
    for line in up.stdout:
        if "relay_ready" in line:
            break
    servants = psutil.Process(up.pid).children(recursive=True)

    up.send_signal(signal.SIGINT)
    said, _ = up.communicate(timeout=60)

    assert up.returncode == 0, said
    assert servants
    assert all(gone(servant, 30) for servant in servants)  # workers hand over what they have first
    assert not db.embedded.running(gristmill.home)
    assert not broker.embedded.running(gristmill.home)
