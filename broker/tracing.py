"""Traces with OpenTelemetry, from a submission through the queue into the job; nothing of it without an endpoint.

OTEL_EXPORTER_OTLP_ENDPOINT switches it on (`pip install 'gristmill[otel]'`), and OpenTelemetry's own variables say the
rest; until then nothing of it is imported. Names are those of its semantic conventions for messaging: a submission is a
`send` span, and the parent of the `process` span of each attempt, however much later and wherever that runs: the row of
the job carries the context, as `trace` in its notes (W3C Trace Context). Within it a span of the kind's name is
the body; what the body submits is a child of that.
"""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from celery.exceptions import Ignore, Retry
from celery.signals import worker_process_shutdown

from db.ledger import Claimed, NewJob
from db.settings import redact

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE = "gristmill"
EXPORT_S = 3.0

_mates: dict[UUID, "Span"] = {}  # of the batch that this process runs


@cache
def on() -> bool:
    """Whether this process traces. Decided once: asking costs a dictionary look-up."""
    if not any(map(os.environ.get, ENDPOINTS)) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    try:
        found = find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        log.warning("not_traced", reason=f"{ENDPOINTS[0]} is set: pip install 'gristmill[otel]', or unset it")
    return found is not None


@cache
def tracer() -> "Tracer":
    """The process's tracer: of the provider that the application around us has set, else of one of our own."""
    from opentelemetry import trace

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        provider = _provider()
        trace.set_tracer_provider(provider)
        worker_process_shutdown.connect(lambda **_: provider.shutdown(), weak=False)  # a pool's process has no atexit
    return trace.get_tracer(SERVICE)


def _provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    # When nobody listens there, a script is to end within seconds all the same.
    timeout = None if "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ else EXPORT_S
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout)))
    return provider


def submitted(jobs: Sequence[NewJob], record: Callable[[Sequence[NewJob]], list[UUID]]) -> list[UUID]:
    """What `record` answers, traced: each of the jobs that it is given carries the context of this submission."""
    from opentelemetry.trace import SpanKind

    queues = {job.queue for job in jobs}
    attributes = _messaging("submit", "send", queues.pop() if len(queues) == 1 else None)
    if len(jobs) == 1:
        attributes |= _about(jobs[0])
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
    with _span(_name(attributes), attributes, kind=SpanKind.PRODUCER) as span:
        context = {"trace": _injected()}
        ids = record([replace(job, notes={**(job.notes or {}), **context}) for job in jobs])
        if len(jobs) == 1:
            span.set_attribute("messaging.message.id", str(ids[0]))  # of the live job, if the key has one
        return ids


def processing(job: Claimed, mates: Sequence[Claimed], worker: str) -> AbstractContextManager[Any]:
    """A `process` span for this attempt, and one for each that runs along with it, all until the block ends."""
    return _processing(job, mates, worker) if on() else nullcontext()


@contextmanager
def _processing(job: Claimed, mates: Sequence[Claimed], worker: str) -> Iterator[None]:
    from opentelemetry.trace import Link, SpanKind, get_current_span

    came_from = [get_current_span(extracted(each.trace)).get_span_context() for each in mates]
    links = [Link(each) for each in came_from if each.is_valid]
    size = {"messaging.batch.message_count": len(mates) + 1} if mates else {}
    attributes = _attempt(job, worker) | size
    with _span(_name(attributes), attributes, extracted(job.trace), kind=SpanKind.CONSUMER, links=links) as leader:
        for each in mates:
            of_mate = _attempt(each, worker) | size
            _mates[each.id] = tracer().start_span(
                _name(of_mate), extracted(each.trace), SpanKind.CONSUMER, of_mate, [Link(leader.get_span_context())]
            )
        try:
            yield
        finally:
            for span in _mates.values():
                span.end()
            _mates.clear()


def body(kind: str) -> AbstractContextManager[Any]:
    """A span for what the kind's own code does."""
    return _span(kind, {"gristmill.kind": kind}) if on() else nullcontext()


def failed(job_id: UUID, error: BaseException) -> None:
    """One of a batch's jobs failed."""
    if span := _mates.get(job_id):
        _fail(span, error)


def _messaging(name: str, kind: str, queue: str | None) -> dict[str, Any]:
    said = {"messaging.system": SERVICE, "messaging.operation.name": name, "messaging.operation.type": kind}
    return said if queue is None else said | {"messaging.destination.name": queue}


def _about(job: NewJob | Claimed) -> dict[str, Any]:
    return {
        "messaging.message.id": str(job.id),
        "messaging.message.conversation_id": str(job.root_id or job.id),
        "gristmill.kind": job.kind,
    }


def _attempt(job: Claimed, worker: str) -> dict[str, Any]:
    given = {"messaging.client.id": worker, "gristmill.attempt": job.attempt}
    return _messaging("process", "process", job.queue) | _about(job) | given


def _name(attributes: Mapping[str, Any]) -> str:
    """The operation and its destination."""
    queue = attributes.get("messaging.destination.name", "")
    return f"{attributes['messaging.operation.name']} {queue}".rstrip()


@contextmanager
def _span(
    name: str, attributes: Mapping[str, Any], context: "Context | None" = None, **options: Any
) -> Iterator["Span"]:
    """The current span of the block. How that ended is said here, without credentials: not by OpenTelemetry itself."""
    options |= {"record_exception": False, "set_status_on_exception": False}
    with tracer().start_as_current_span(name, context, attributes=dict(attributes), **options) as span:
        try:
            yield span
        except Ignore as ignored:  # cancelled, handed over, waits for its children: no error
            span.set_attribute("gristmill.outcome", redact(str(ignored)))
            raise
        except Retry as retry:
            _fail(span, retry.__cause__ or retry)
            raise
        except Exception as error:
            _fail(span, error)
            raise


def _fail(span: "Span", error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    said, name = redact(str(error)), type(error).__qualname__
    span.set_status(Status(StatusCode.ERROR, said.split("\n")[0]))
    span.set_attribute("error.type", name)
    lines = redact("".join(traceback.format_exception(error)))
    span.add_event("exception", {"exception.type": name, "exception.message": said, "exception.stacktrace": lines})


def _injected() -> dict[str, str]:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


def extracted(trace: Any) -> "Context":
    """The context that a row or a request carries; an empty one if it carries none, or what is none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    given = trace.items() if isinstance(trace, Mapping) else ()
    carrier = {name: value for name, value in given if isinstance(value, str)}
    return TraceContextTextMapPropagator().extract(carrier, Context())
