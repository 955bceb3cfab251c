"""A trace goes from a request or a script through the ledger's row into the attempts of the job."""

import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
from celery.exceptions import Ignore, Retry
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from broker import tracing
from broker.errors import JobError
from db import batch, ledger
from db.engine import autocommit
from db.ledger import Claimed
from tests.jobs import add, together
from web.app import create
from web.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_db")
FROM_OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is exported, in the order of the spans' ends."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "on", lambda: True)
    monkeypatch.setattr(tracing, "tracer", lambda: provider.get_tracer("test"))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)  # FastAPI asks for it
    yield exporter
    provider.shutdown()


def claim(job_id: str) -> Claimed:
    with autocommit() as connection:
        claimed = ledger.claim(connection, UUID(job_id), "cpu@here", 30)
    assert claimed is not None
    return claimed


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def test_an_attempt_is_a_child_of_its_submission_and_what_the_body_submits_of_the_body(
    spans: InMemorySpanExporter,
) -> None:
    job_id = add.delay(x=1).id
    with tracing.processing(claim(job_id), [], "cpu@here"), tracing.body("tests.add"):
        add.delay(x=2)

    sent, child, ran, processed = spans.get_finished_spans()
    assert (sent.name, sent.kind, parent(sent)) == ("submit cpu", SpanKind.PRODUCER, None)
    assert (processed.name, processed.kind, parent(processed)) == (
        "process cpu", SpanKind.CONSUMER, sent.context.span_id,
    )  # fmt: skip
    assert (ran.name, parent(ran)) == ("tests.add", processed.context.span_id)
    assert (child.name, parent(child)) == ("submit cpu", ran.context.span_id)
    assert {span.context.trace_id for span in (sent, child, ran, processed)} == {sent.context.trace_id}
    assert dict(processed.attributes or {}) == {
        "messaging.system": "gristmill",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "cpu",
        "messaging.message.id": job_id,
        "messaging.message.conversation_id": job_id,
        "messaging.client.id": "cpu@here",
        "gristmill.kind": "tests.add",
        "gristmill.attempt": 1,
    }


def test_each_job_of_a_batch_is_in_the_trace_of_its_own_submission(spans: InMemorySpanExporter) -> None:
    leader = claim(together.delay(n=1).id)
    together.delay(n=2)
    with autocommit() as connection:
        mates = batch.join(connection, leader, "cpu@here", 30, 7)
    with tracing.processing(leader, mates, "cpu@here"):
        tracing.failed(mates[0].id, JobError("redis://me:sesame@host is no text"))

    first, second, of_mate, of_leader = spans.get_finished_spans()
    assert of_leader.context.trace_id == first.context.trace_id != second.context.trace_id
    assert parent(of_mate) == second.context.span_id
    assert [link.context.span_id for link in of_leader.links] == [second.context.span_id]
    assert [link.context.span_id for link in of_mate.links] == [of_leader.context.span_id]
    assert of_mate.status.status_code is StatusCode.ERROR
    assert "sesame" not in of_mate.to_json()
    assert of_leader.status.is_unset


@pytest.mark.parametrize(
    ("raised", "type_of_error", "outcome"),
    [(Ignore("waits for its children"), None, "waits for its children"), (Retry("again"), "Retry", None),
     (ValueError("no"), "ValueError", None)],
)  # fmt: skip
def test_how_an_attempt_ended_is_said(
    spans: InMemorySpanExporter, raised: Exception, type_of_error: str | None, outcome: str | None
) -> None:
    with pytest.raises(type(raised)), tracing.processing(claim(add.delay(x=1).id), [], "cpu@here"):
        raise raised

    said = dict(spans.get_finished_spans()[-1].attributes or {})
    assert (said.get("error.type"), said.get("gristmill.outcome")) == (type_of_error, outcome)


def test_a_request_is_in_the_trace_of_whoever_asks_and_its_job_in_that(spans: InMemorySpanExporter) -> None:
    client = TestClient(create(Settings()), base_url="http://localhost:8004")

    answer = client.post(
        "/api/v1/jobs", json={"kind": "tests.add", "params": {"x": 1}}, headers={"traceparent": FROM_OUTSIDE}
    )

    assert answer.status_code < 300, answer.text
    sent, asked = spans.get_finished_spans()
    assert (asked.name, asked.kind) == ("POST /api/v1/jobs", SpanKind.SERVER)
    assert asked.parent is not None
    assert f"{asked.parent.span_id:x}" == "b7ad6b7169203331"
    assert parent(sent) == asked.context.span_id
    assert asked.attributes is not None
    assert asked.attributes["http.response.status_code"] == answer.status_code


def test_without_an_endpoint_nothing_of_it_is_imported_by_us_and_rows_carry_nothing() -> None:
    program = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import workers.runner
from broker import tracing
print(tracing.on(), tracing.processing(None, [], ""))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("False <contextlib.nullcontext")

    assert claim(add.delay(x=1).id).trace is None
