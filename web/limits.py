"""What the door bears: bodies of a size, so many requests a second of one caller; and what it does not listen to."""

import math
import time
from collections import OrderedDict
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.problems import Problem, told
from web.settings import Settings, listed

_BURST_S = 2.0  # a caller that was quiet may send as much as in so many seconds at once
_CALLERS = 10_000
_TOO_LARGE = "the body is larger than GRISTMILL_WEB_BODY_BYTES: put data into a file or the artifact store"
_SAFE = ("GET", "HEAD", "OPTIONS")


class Rates:
    """A bucket of tokens for each caller, in each process by itself."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, rate * _BURST_S)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, name: str) -> None:
        """Count a request. Raises Problem 429."""
        if not self._rate:
            return
        now = time.monotonic()
        left, at = self._left.pop(name, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        self._left[name] = (left - 1 if left >= 1 else left), now
        while len(self._left) > _CALLERS:
            self._left.popitem(last=False)
        if left < 1:
            wait = math.ceil((1 - left) / self._rate)
            raise Problem(429, f"more than {self._rate:g} requests a second: wait", headers={"Retry-After": str(wait)})


class Guard:
    """Around everything: requests that no well-meant client sends, and headers that every answer has.

    Without tokens, whoever is on this machine may call; a page of another site must not do so through his browser. So
    such a door answers to its own names only (DNS rebinding), and takes no change from another site's page.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        own = {"localhost", "127.0.0.1", "::1", settings.web_host, *listed(settings.web_hosts)}
        self._names = None if settings.guarded else own
        self._origins = {*listed(settings.web_origins)}
        self._most = int(settings.web_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_missing(message["headers"])]
            await send(message)

        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise Problem(413, _TOO_LARGE)
            return message

        if refused := self._refuse(scope):
            await told(Request(scope), refused)(scope, receive, with_headers)
        else:
            await self._app(scope, limited, with_headers)

    def _refuse(self, scope: Scope) -> Problem | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return Problem(400, "the address contains a NUL character: leave it out")
        length = headers.get(b"content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most:
            return Problem(413, _TOO_LARGE)
        if self._names is None:
            return None
        host = headers.get(b"host", "")
        if _name(host) not in self._names:
            return Problem(400, "this door answers to its own names only: add this one to GRISTMILL_WEB_HOSTS")
        origin = headers.get(b"origin")
        foreign = origin not in (None, f"{scope['scheme']}://{host}", *self._origins)
        if scope["method"] not in _SAFE and (foreign or headers.get(b"sec-fetch-site") == "cross-site"):
            return Problem(403, "a page of another site may change nothing: name its origin in GRISTMILL_WEB_ORIGINS")
        return None


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname if host.isprintable() else None
    except ValueError:  # such as half an address in brackets
        return None


_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}


def _missing(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name.lower() for name, _ in headers}
    return [(name, value) for name, value in _HEADERS.items() if name not in there]
