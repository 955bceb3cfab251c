"""`gristmill metrics`: serves what the ledger says to Prometheus."""

import signal
import threading

from prometheus_client import CollectorRegistry, start_http_server

from broker.address import announce, free_port, url
from broker.metrics import LedgerCollector, LedgerReader


def serve(host: str, port: int) -> None:
    """Serve /metrics until a signal, on the first free port from this one on; the address is kept for doctor."""
    registry = CollectorRegistry()
    reader = LedgerReader()
    registry.register(LedgerCollector(reader))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # at once, whatever a scrape waits for
    free = free_port(port, host)
    start_http_server(free, host, registry)
    announce("metrics", f"{url(host, free)}/metrics")
    reader.keep_settled(threading.Event())  # until a signal
