"""One trace from a request through the queue into the job's body, as a collector of OTLP receives it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.testclient import TestClient

import workers.runner  # noqa: F401  what it plugs in runs the jobs
from broker import tracing
from broker.app import app
from tests import rows
from tests.jobs import add
from web.app import create
from web.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_db")
Received = Callable[[], dict[str, list[Span]]]


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Span]]]:
    """Its address, and the spans that it was sent."""
    spans: list[Span] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            spans.extend(span for each in sent.resource_spans for scope in each.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


@pytest.fixture
def received(collector: tuple[str, list[Span]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """This process traces; what has arrived so far, by name."""
    address, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    tracing.on.cache_clear()
    provider = tracing._provider()
    monkeypatch.setattr(tracing, "tracer", lambda: provider.get_tracer(tracing.SERVICE))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)  # one that is set cannot be taken back

    def arrived() -> dict[str, list[Span]]:
        provider.force_flush()
        return {name: [each for each in spans if each.name == name] for name in {each.name for each in spans}}

    yield arrived
    provider.shutdown()
    monkeypatch.undo()
    tracing.on.cache_clear()


def run_next(queue: str) -> Any:
    """Take a message from Redis and run its job in this process, as a worker's does."""
    with app.pool.acquire(block=True) as connection, connection.SimpleQueue(queue) as messages:
        message = messages.get(timeout=10)
        message.ack()
    task = app.tasks[message.headers["task"]]
    task.push_request(id=message.headers["id"], hostname="cpu@here", delivery_info={"routing_key": queue})
    try:
        return copy_context().run(task.run)  # what it binds to log lines ends with it
    finally:
        task.pop_request()


def post(client: TestClient, x: int, **headers: str) -> str:
    answer = client.post("/api/v1/jobs", json={"kind": add.name, "params": {"x": x}}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_a_request_its_submission_the_attempt_and_the_body_are_one_trace(received: Received) -> None:
    job = post(TestClient(create(Settings()), base_url="http://localhost:8004"), 2)

    assert run_next("cpu") == 3

    spans = received()
    request, sent, attempt, body = (
        spans[name][0] for name in ("POST /api/v1/jobs", "submit cpu", "process cpu", add.name)
    )
    assert [each.parent_span_id for each in (request, sent, attempt, body)] == [
        b"", request.span_id, sent.span_id, attempt.span_id,
    ]  # fmt: skip
    assert {each.trace_id for each in (request, sent, attempt, body)} == {request.trace_id}
    assert {each.key: each.value.string_value for each in attempt.attributes}["messaging.message.id"] == job
    assert rows.row(job).state == "SUCCESS"


def test_submissions_that_come_together_stay_in_the_traces_of_their_own_requests(received: Received) -> None:
    callers = {x: f"{x + 1:032x}" for x in range(6)}
    with TestClient(create(Settings()), base_url="http://localhost:8004") as client, ThreadPoolExecutor(6) as pool:
        jobs = pool.map(lambda x: post(client, x, traceparent=f"00-{callers[x]}-b7ad6b7169203331-01"), callers)
        found = {
            x: rows.row(job).notes["trace"]["traceparent"].split("-")[1] for x, job in zip(callers, jobs, strict=True)
        }

    assert found == callers
    assert {each.trace_id.hex() for each in received()["submit cpu"]} == set(callers.values())
