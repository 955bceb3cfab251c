"""The client alone: a fresh environment without the ML stack enqueues, waits and serves a web app."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.engine import autocommit
from tests.processes import ROOT, start_relay, start_worker

pytestmark = pytest.mark.timeout(300)  # the first install downloads 40 MB

LIMIT_MB = 75  # it was 60; the bytecode that pip compiles from it comes on top
HEAVY = ("torch", "transformers", "numpy", "scipy", "pyarrow", "pandas", "safetensors")

NOTHING_HEAVY = f"""
import importlib.util, sys
import jobs.recommend.tasks, jobs.upkeep.tasks, broker.app, workers.cli
assert ROOT not in sys.path, sys.path
print([name for name in {HEAVY!r} if importlib.util.find_spec(name) or name in sys.modules])
"""

TRAIN = f"""
import sys
from jobs.recommend.tasks import import_data, train
imported = import_data.submit(data=sys.argv[1]).get(timeout=60)
trained = train.submit(data="database", preset="quick", epochs=1, dim=8).get(timeout=120)
assert trained["is_current"], trained
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""

WEB = f"""
import io, json, sys
sys.path.insert(0, sys.argv[1])
from webapp import Base, application, engine

def call(method, path, body=b""):
    said = []
    environ = {{"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_LENGTH": str(len(body)),
               "wsgi.input": io.BytesIO(body)}}
    answer = b"".join(application(environ, lambda status, headers: said.append(int(status[:3]))))
    return said[0], json.loads(answer)

Base.metadata.create_all(engine())
signup = json.dumps({{"username": "ann", "item_ids": ["i1", "i2", "i3"]}}).encode()
status, answer = call("POST", "/signups", signup)
assert status == 201, answer
while (state := call("GET", "/jobs/" + answer["job"])[1]["state"]) not in ("SUCCESS", "FAILURE"):
    pass
assert state == "SUCCESS", call("GET", "/jobs/" + answer["job"])
assert call("GET", "/users/ann")[0] == 200
assert call("POST", "/signups", signup)[0] == 409
assert call("POST", "/users/ann/refresh")[0] == 202
assert call("GET", "/users/nobody")[0] == 404
assert call("POST", "/users/nobody/refresh")[0] == 400
assert call("POST", "/signups", b'{{"username": "bob", "item_ids": []}}')[0] == 400
assert call("POST", "/signups", b"{{}}")[0] == 400
assert call("GET", "/jobs/00000000")[0] == 404
with engine().connect() as connection:
    found = connection.exec_driver_sql("SELECT username FROM example_signup").scalars().all()
assert found == ["ann"], found  # bob's sign-up was rolled back with his job
print(sorted(set(sys.modules) & set({HEAVY!r})))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to install from, since a build leaves its folders in the tree."""
    copy = tmp_path_factory.mktemp("source") / "gristmill"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs", "build", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def client(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with `pip install .` and nothing else."""
    folder = tmp_path_factory.mktemp("client")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    python = folder / "bin" / "python"
    install = ["install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), *install]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run([*pip, *constraints, str(source)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def running(services: Path) -> Iterator[dict[str, str]]:
    """A relay and a worker of both queues; yields the settings of a client on another machine."""
    from broker.settings import redis_url
    from db.settings import settings

    relay = start_relay(services)
    worker = start_worker(services, name="client", concurrency=1, queues="cpu,gpu", GRISTMILL_JOBS="")
    try:
        yield {"GRISTMILL_DATABASE_URL": settings().postgres_url(), "GRISTMILL_BROKER_URL": redis_url()}
    finally:
        worker.stop()
        relay.stop()


def run(python: Path, urls: dict[str, str], cwd: Path, *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRISTMILL_", "PYTHON"))}
    command = [str(python), *arguments]
    done = subprocess.run(command, cwd=cwd, env=kept | urls, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_is_small(client: Path) -> None:
    paths = [path for path in client.parents[1].rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = {path: path.stat().st_size / 1e6 for path in paths}
    compiled = sum(size for path, size in sizes.items() if path.suffix == ".pyc")
    installed = sum(sizes.values()) - compiled
    sys.stdout.write(f"client install: {installed:.0f} MB, and {compiled:.0f} MB of compiled bytecode\n")

    assert installed < LIMIT_MB


def test_nothing_heavy_is_installed_or_imported(client: Path, tmp_path: Path) -> None:
    program = NOTHING_HEAVY.replace("ROOT", repr(str(ROOT)))

    assert run(client, {}, tmp_path, "-c", program) == "[]\n"


def test_it_submits_and_waits_from_scripts_and_from_a_web_app(
    client: Path, running: dict[str, str], source: Path, tmp_path: Path
) -> None:
    rows = [f"u{user},i{(user * 3 + step * (1 + user % 3)) % 25},{step}" for user in range(40) for step in range(9)]
    (tmp_path / "data.csv").write_text("\n".join(["user,item,timestamp", *rows]))

    assert run(client, running, tmp_path, "-c", TRAIN, str(tmp_path / "data.csv")) == "[]\n"

    said = run(client, running, tmp_path, str(source / "examples" / "enqueue.py"), "u7").splitlines()
    assert said[0].startswith("enqueued ")
    assert "'cached': False" in said[1]
    assert said[2].startswith("['i")

    try:
        assert run(client, running, tmp_path, "-c", WEB, str(source / "examples")) == "[]\n"
    finally:
        with autocommit() as connection:  # the app's own table is none of the next test's business
            connection.exec_driver_sql("DROP TABLE IF EXISTS example_signup")

    answer = json.loads(run(client, running, tmp_path, "-m", "workers", "recommend", "u7", "--top-k", "3", "--json"))
    assert (answer["username"], answer["source"], len(answer["items"])) == ("u7", "redis", 3)
    answer = json.loads(run(client, running, tmp_path, "-m", "workers", "recommend", "u8", "--json"))
    assert (answer["username"], answer["source"], len(answer["items"])) == ("u8", "computed", 10)
