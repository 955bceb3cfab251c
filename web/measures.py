"""What Prometheus is told at /metrics: the ledger's numbers, and this process's requests and open streams."""

import threading
import time

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.metrics import LedgerCollector, LedgerReader
from web.feed import Feed

log = structlog.get_logger()

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Measures:
    """Of one app. The ledger is read from the first scrape on: a door that nobody scrapes costs it nothing."""

    def __init__(self, feed: Feed) -> None:
        self._registry = CollectorRegistry()
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._reader: LedgerReader | None = None
        labels = ("method", "route", "status")
        self._requests = Counter("gristmill_http_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "gristmill_http_request_seconds", "From a request to the first byte of its answer.", labels[:2],
            buckets=_BOUNDS_S, registry=self._registry,
        )  # fmt: skip
        streams = Gauge("gristmill_http_streams", "Open streams of events.", registry=self._registry)
        streams.set_function(lambda: feed.listeners)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """All of it as Prometheus reads it; asks Postgres."""
        with self._lock:
            if self._reader is None:
                self._reader = LedgerReader()
                self._registry.register(LedgerCollector(self._reader))
                threading.Thread(
                    target=self._reader.keep_settled, args=[self._stop], name="measures", daemon=True
                ).start()
        return generate_latest(self._registry)

    def stop(self) -> None:
        """Read the ledger no more."""
        self._stop.set()


class Measured:
    """Around the app: counts what it answers. Routes by their template: what callers make up would be a series each."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app, self._measures = app, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._measures.count(method, route, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, counted)


_METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
