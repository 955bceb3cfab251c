"""Asking an HTTP server patiently: bounded in time, size and tries, with jitter, and by its own Retry-After."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

import httpx2

from broker.errors import summary

T = TypeVar("T")

LATER = {408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}  # what another try may mend
_LONGEST_PAUSE_S = 30.0
_LONGEST_WAIT_S = 120.0  # that a server may ask for


class Later(Exception):
    """Worth another try; after `wait_s` when the server said so. `patiently` raises the last one."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class TooLarge(Exception):
    """An answer of more bytes than were asked for."""


def patiently(
    ask: Callable[[], T], *, retries: int, pause_s: float, sleep: Callable[[float], object] = time.sleep
) -> T:
    """The answer of the first try that raises no Later; pauses grow by two each time, with jitter. Raises Later."""
    for tried in range(retries):
        try:
            return ask()
        except Later as error:
            backoff = min(_LONGEST_PAUSE_S, pause_s * 2**tried) * random.uniform(0.5, 1.5)
            sleep(error.wait_s or backoff)
    return ask()


def exchange(
    client: httpx2.Client, method: str, url: str, body: Any, *, timeout_s: float, largest: int
) -> tuple[httpx2.Response, bytes]:
    """One request with a JSON body, and its whole answer, whatever its status.

    Raises Later for silence, a trickle and broken connections, TooLarge, and httpx2's errors for a wrong address.
    """
    deadline = time.monotonic() + timeout_s
    data = bytearray()
    try:
        with client.stream(method, url, json=body) as response:
            for piece in response.iter_bytes():
                data += piece
                if len(data) > largest:
                    raise TooLarge
                if time.monotonic() > deadline:  # a trickle keeps the connection's own timeout from ending it
                    raise Later(f"no whole answer within {timeout_s:g} s")
    except httpx2.TimeoutException:
        raise Later(f"no answer within {timeout_s:g} s") from None
    except httpx2.TransportError as error:
        raise Later(f"{type(error).__name__}: {summary(error)}") from None
    return response, bytes(data)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number or a date (RFC 9110, 10.2.3); bounded."""
    given = headers.get("retry-after", "")
    try:
        wait = float(given)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(wait, 0.0), _LONGEST_WAIT_S) if wait == wait else None


@cache
def trusted() -> ssl.SSLContext:
    """Reading the authorities takes half a second: once a process."""
    return httpx2.create_ssl_context()
