"""A door under measurement, and clients that cost little: the cores are shared with what is measured."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.services import ROOT

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Door:
    """A server under measurement."""

    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """The processor time that it took so far: with others on the machine, it says more than how long it took."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextmanager
def door(command: Sequence[str] = ("-m", "web"), ready: str = "/health/live", **env: str) -> Iterator[Door]:
    """A server as a process of its own."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    wanted = {"GRISTMILL_WEB_PORT": str(port), "GRISTMILL_WEB_RATE": "0", **env}
    process = psutil.Popen(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **wanted}, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://{HOST}:{port}{ready}", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield Door(port, process)
    finally:
        process.terminate()
        process.wait(20)


class Client:
    """One kept-alive connection of HTTP/1.1; answers have a Content-Length."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "Client":
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def post(self, path: str, body: Any) -> tuple[int, bytes]:
        """Status and content."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: "
        self._writer.write(f"{head}{len(content)}\r\n\r\n".encode() + content)
        found = await self._reader.readuntil(b"\r\n\r\n")
        length = int(found.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(found.split(b" ", 2)[1]), await self._reader.readexactly(length)


class Listener(asyncio.Protocol):
    """One stream of events. Tells each event's data, with the moment at which it was there, and that it was closed."""

    def __init__(self, path: str, heard: Callable[[float, bytes], None], closed: Callable[[], None]) -> None:
        self._path, self._heard, self._closed, self._rest = path, heard, closed, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        transport.write(f"GET {self._path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        now = time.time()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                self._heard(now, line[6:])

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._closed()


def storm(port: int, clients: int, requests: int, ask: Callable[[int], tuple[str, Any]]) -> tuple[float, list[float]]:
    """So many clients, each as fast as it is answered: requests a second, and the milliseconds of each.

    ask: path and body of a request by its number. Raises RuntimeError for an answer that is none of 2xx.
    """

    async def run() -> tuple[float, list[float]]:
        numbers, taken = iter(range(requests)), list[float]()

        async def one() -> None:
            async with Client(port) as client:
                for number in numbers:
                    path, body = ask(number)
                    began = time.perf_counter()
                    status, content = await client.post(path, body)
                    taken.append(1000 * (time.perf_counter() - began))
                    if status >= 300:
                        raise RuntimeError(f"{path} was answered with {status}: {content[:200]!r}")

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(clients)))
        return requests / (time.perf_counter() - began), taken

    return asyncio.run(run())
