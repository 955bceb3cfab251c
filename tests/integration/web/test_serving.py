"""`gristmill web` as a process of its own, with a real worker behind it."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from examples import progress
from tests.processes import Process

API = "/api/v1/jobs"


@pytest.fixture(scope="module")
def web(services: Path) -> Iterator[tuple[Process, str]]:
    """The process and its address; its usual port is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = Process([sys.executable, "-m", "workers", "web", "--port", port], services)
        address = process.wait_for("web: http").split()[-1]
        process.wait_for("web_ready")
        yield process, address
        assert process.stop(timeout=15) == -signal.SIGTERM  # by itself, its streams ended


def test_a_stream_goes_on_where_it_was_lost(web: tuple[Process, str], worker: Process, tmp_path: Path) -> None:
    _, address = web
    go = tmp_path / "go"
    with httpx2.Client(base_url=address, timeout=60) as client:
        job = client.post(API, json={"kind": "tests.step", "params": {"go": str(go)}}).json()["id"]

        with client.stream("GET", f"{API}/{job}/events") as lost:
            lines = lost.iter_lines()
            seen = next(line for line in lines if line.startswith("id: "))
            next(line for line in lines if line == "event: progress")
        go.touch()
        with client.stream("GET", f"{API}/{job}/events", headers={"Last-Event-ID": seen[4:]}) as again:
            told = [json.loads(line[6:]) for line in again.iter_lines() if line.startswith("data: ")]

        states = [each["state"] for each in told if "state" in each]
        assert states == ["STARTED", "SUCCESS"]
        assert told[-1]["result"] == "gone"
        assert client.get(f"{API}/{job}", params={"wait": 5}).json()["state"] == "SUCCESS"


def test_a_body_of_ten_megabytes_is_answered(web: tuple[Process, str]) -> None:
    _, address = web
    with httpx2.Client(base_url=address, timeout=60) as client:
        for path in ("/predict", API):
            answer = client.post(path, content=b" " * (10 << 20), headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["status"]) == (413, 413)
        assert client.get("/health/ready").status_code == 200


def test_what_is_no_http_is_answered_or_closed(web: tuple[Process, str]) -> None:
    process, address = web
    host, port = address.removeprefix("http://").split(":")
    for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", b"GET /" + b"x" * 100_000):
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            assert b"Traceback" not in raw.recv(65536)
    assert process.popen.poll() is None
    assert not [line for line in process.lines if "Traceback" in line]


def test_the_examples_page_submits_and_shows_progress(
    web: tuple[Process, str], worker: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    monkeypatch.setattr(progress, "DOOR", httpx2.AsyncClient(base_url=f"{web[1]}/api/v1", timeout=60))
    monkeypatch.setattr(progress, "JOB", {"kind": "tests.step", "params": {"go": str(go)}})
    with TestClient(progress.app) as page:
        assert "<progress" in page.get("/").text
        job = page.post("/jobs").json()["id"]
        go.touch()
        told = page.get(f"/jobs/{job}").text

    assert '"state":"STARTED"' in told
    assert '"result":"gone"' in told
