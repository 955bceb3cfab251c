"""A client of AniList's GraphQL API: at its pace, patient with its faults, clear about what it will not answer.

GristmillError
├── Unreachable    AniList does not answer now: a later attempt of the job may find it
├── Refused        it will not do this request, however often it is asked (a JobError)
└── NoSuchUser     of one user: unknown, or
    └── PrivateUser    not for strangers to see
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx2

from broker.errors import GristmillError, JobError, summary
from db.settings import redact
from jobs.training.remote import LATER, Later, TooLarge, exchange, patiently, retry_after, trusted

SHARE = 0.9  # of what it takes in a minute: a few may follow each other at once, and others may ask from this address
LARGEST = 16 * 2**20  # bytes of an answer
TIMEOUT_S = 30.0
RETRIES = 6
_TIMED_OUT_S = 60.0  # after too many requests, when the answer does not say for how long


class Unreachable(GristmillError):
    """AniList does not answer, or not now."""


class Refused(JobError):
    """AniList will not do this request."""


class NoSuchUser(GristmillError):
    """AniList knows no such user."""


class PrivateUser(NoSuchUser):
    """The user's list is private."""


class Pace(Protocol):
    """See broker.pace.Pace."""

    per_minute: float

    def turn(self) -> None: ...

    def hold(self, seconds: float) -> None: ...


class Client:
    """`requests` counts what was asked of the server, each try."""

    def __init__(
        self,
        url: str,
        pace: Pace,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        pause_s: float = 1.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.url, self.requests = url, 0
        self._pace, self._timeout_s, self._retries, self._pause_s, self._sleep = (
            pace,
            timeout_s,
            retries,
            pause_s,
            sleep,
        )
        self._client = httpx2.Client(
            headers={"Accept": "application/json", "User-Agent": "gristmill"},
            verify=trusted(),
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 10)),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The `data` of the answer. Raises Refused, NoSuchUser, PrivateUser, and Unreachable after the retries."""
        body = {"query": query, "variables": dict(variables)}
        try:
            return patiently(lambda: self._once(body), retries=self._retries, pause_s=self._pause_s, sleep=self._sleep)
        except Later as error:
            said = f"AniList at {self.url}: {redact(str(error))} (asked {self._retries + 1} times)"
            raise Unreachable(f"{said}: submit again later, what is known by now is not asked again") from None

    def _once(self, body: dict[str, Any]) -> dict[str, Any]:
        self._pace.turn()
        self.requests += 1
        try:
            response, data = exchange(self._client, "POST", self.url, body, timeout_s=self._timeout_s, largest=LARGEST)
        except TooLarge:
            raise Refused(f"{self.url}: an answer of more than {LARGEST >> 20} MB: {_ADDRESS}") from None
        except (httpx2.InvalidURL, httpx2.HTTPError) as error:
            raise Refused(f"{self.url}: {redact(summary(error))}: {_ADDRESS}") from None
        self._heed(response.headers)
        return self._data(response, data)

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Keep the pace that the answer names; when nothing remains, nobody asks until it is reset, or for a minute."""
        limit, remaining = _number(headers.get("x-ratelimit-limit")), _number(headers.get("x-ratelimit-remaining"))
        if limit:
            self._pace.per_minute = limit * SHARE
        if remaining == 0 and "retry-after" not in headers:
            reset = _number(headers.get("x-ratelimit-reset"))
            self._pace.hold(min(max(reset - time.time(), 0.0), _TIMED_OUT_S) if reset else _TIMED_OUT_S)

    def _data(self, response: httpx2.Response, content: bytes) -> dict[str, Any]:
        """Errors come with HTTP 200 as well as with the status that they are of."""
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            answer = {}
        status, said = _complaint(answer, response.status_code)
        if status == 429:
            wait = retry_after(response.headers)
            self._pace.hold(_TIMED_OUT_S if wait is None else wait)  # for all workers, this one with its next turn
            raise Later(f"HTTP 429: {said or 'too many requests'}")
        if status in LATER or status >= 500:
            raise Later(f"HTTP {status}: {said or 'no reason given'}")
        if "private" in said.lower():
            raise PrivateUser(said)
        if status == 404 and said:
            raise NoSuchUser(said)
        if status == 403 and said:  # "temporarily disabled", or blocked by hand: no matter of seconds
            raise Unreachable(f"AniList at {self.url}: HTTP 403: {said}: submit again when it is back")
        if status != 200:
            raise Refused(f"{self.url}: HTTP {status}: {said or 'no GraphQL answer'}: {_ADDRESS}")
        if not isinstance(answer.get("data"), dict):
            raise Later("an answer that is no JSON, or has no data")
        return dict(answer["data"])


_ADDRESS = "is GRISTMILL_ANILIST_URL right on this worker?"


def _complaint(answer: dict[str, Any], status: int) -> tuple[int, str]:
    """The status and the words of the first error, or (HTTP status, "")."""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return status, ""
    of = first.get("status")
    said = redact(" ".join(str(first.get("message") or "no reason given").split()))[:200].rstrip(".")
    if isinstance(of, int):
        return of, said
    return (status if status != 200 else 400), said


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None
