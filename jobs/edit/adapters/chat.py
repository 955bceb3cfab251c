"""A client of OpenAI-compatible chat completions: patient with a busy server, clear about one that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from broker.errors import GristmillError, summary
from db.settings import redact
from jobs.edit.adapters.base import AdapterError
from jobs.training.remote import LATER, Later, TooLarge, exchange, patiently, retry_after, trusted

LARGEST = 4 * 2**20  # bytes of an answer


class Unreachable(GristmillError):
    """The server does not answer, or not now: another attempt may find it."""


class Refused(GristmillError):
    """The server will not do this request, however often it is asked."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Reply:
    text: str
    cut: bool  # it ended because it was too long


class Chat:
    """One server. Threads may share it: `complete` from several keeps several requests in flight.

    retries: of a request after the first try, on 429, 5xx, a broken connection, silence or an answer that is none;
    pauses grow from `pause_s` by two each time, with jitter, unless the server says Retry-After.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float, retries: int, pause_s: float, connections: int) -> None:
        self._url, self._key = url.rstrip("/"), key
        self._timeout_s, self._retries, self._pause_s = timeout_s, retries, pause_s
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=trusted(),
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 10)),
            limits=httpx2.Limits(max_connections=connections),
        )

    def close(self) -> None:
        self._client.close()

    def check(self) -> None:
        """Whether the server is there and takes the key. Raises AdapterError for a wrong one, Unreachable."""
        try:
            self._patiently(lambda: self._ask("GET", "/models", None))
        except Refused as error:
            if error.status not in (404, 405):  # not every server has a list of models
                raise AdapterError(str(error)) from None

    def complete(self, body: dict[str, Any]) -> Reply:
        """The answer to a request. Raises Refused, AdapterError for a wrong key, Unreachable after the retries."""
        return self._patiently(lambda: _reply(self._ask("POST", "/chat/completions", body)))

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        try:
            return patiently(ask, retries=self._retries, pause_s=self._pause_s)
        except Later as error:
            raise Unreachable(
                f"{self._url}: {self._safe(str(error))} (asked {self._retries + 1} times): "
                "start the server, wait until it is less busy, or correct the url"
            ) from None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            response, data = exchange(
                self._client, method, self._url + path, body, timeout_s=self._timeout_s, largest=LARGEST
            )
        except TooLarge:
            said = f"an answer of more than {LARGEST >> 20} MB: is this the right address?"
            raise Refused(f"{self._url}: {said}") from None
        except (httpx2.InvalidURL, httpx2.HTTPError) as error:
            raise Refused(f"{self._url}: {self._safe(summary(error))}: correct the url") from None
        if response.status_code in (401, 403):
            said = f"{self._url}: HTTP {response.status_code}: {self._said(data)}"
            raise AdapterError(f"{said}: correct the key in the variable that key_variable names")
        if response.status_code in LATER:
            raise Later(f"HTTP {response.status_code}: {self._said(data)}", retry_after(response.headers))
        if response.status_code != 200:
            raise Refused(f"{self._url}: HTTP {response.status_code}: {self._said(data)}", response.status_code)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise Later(f"the answer is not JSON: {self._said(data)}") from None

    def _said(self, data: bytes) -> str:
        """What the server gives as its reason, in one line and without secrets."""
        text = data.decode("utf-8", "replace")
        try:
            error = json.loads(text)["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        return self._safe(" ".join(text.split()))[:200] or "it gives no reason"

    def _safe(self, text: str) -> str:
        return redact(text.replace(self._key, "***") if self._key else text)


def _reply(answer: Any) -> Reply:
    try:
        choice = answer["choices"][0]
        content = choice["message"]["content"]
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        return Reply(content or "", choice.get("finish_reason") == "length")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Later("the answer is not a chat completion") from None
