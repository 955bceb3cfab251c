"""Who calls, and what he may do: bearer tokens with scopes, known for a few seconds once they were looked up."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from starlette.concurrency import run_in_threadpool

from db import token
from db.engine import session
from db.token import ADMIN, Holder
from web.problems import Problem

KNOWN_S = 5.0  # after this a revoked token is known to be one
_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent the request."""

    name: str  # for limits, and for idempotency keys: each caller has his own
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether a token of his has this scope."""
        return scope in self.scopes or ADMIN in self.scopes


_LOOPBACK = Caller("loopback", frozenset({ADMIN}))


class Known:
    """The tokens that were looked up lately, good ones and bad ones."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, tuple[float, Holder | None]] = OrderedDict()

    async def holder(self, secret: str) -> Holder | None:
        """Whom it stands for."""
        now = time.monotonic()
        until, found = self._found.get(secret, (0.0, None))
        if now >= until:
            found = await run_in_threadpool(_look_up, secret)
            self._found[secret] = now + KNOWN_S, found
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
        return found


def _look_up(secret: str) -> Holder | None:
    if not secret.startswith(token.PREFIX) or len(secret) > 100:
        return None
    with session() as opened:
        return token.holder(opened, secret)


async def admitted(request: Request, secret: str | None, scopes: Sequence[str]) -> Caller:
    """Whoever sent the request with this token, if he may. Raises Problem: 401, 403, 429."""
    state = request.app.state
    address = request.client.host if request.client else "?"
    if not state.guarded:
        state.rates.spend(address)
        return _LOOPBACK
    found = await state.tokens.holder(secret) if secret else None
    if found is None:
        state.rates.spend(address)
        said = "this token is not known, was revoked or has expired" if secret else "a bearer token is needed"
        challenge = 'Bearer error="invalid_token"' if secret else "Bearer"
        remedy = "`gristmill tokens create NAME` makes one"
        raise Problem(401, f"{said}: {remedy}", headers={"WWW-Authenticate": challenge})
    state.rates.spend(str(found.id))
    who = Caller(str(found.id), found.scopes)
    if lacking := [scope for scope in scopes if not who.may(scope)]:
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'
        detail = f"token {found.name!r} has no scope {lacking[0]!r}: make one that has"
        raise Problem(403, detail, headers={"WWW-Authenticate": challenge})
    return who


class Bearer(SecurityBase):
    """The scheme in the document and the check in one: with FastAPI's own beneath it, as a dependency of a dependency,
    each request took a tenth longer."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="A token of `gristmill tokens create`.")
        self.scheme_name = "HTTPBearer"

    async def __call__(self, scopes: SecurityScopes, request: Request) -> Caller:
        """See `admitted`."""
        scheme, secret = get_authorization_scheme_param(request.headers.get("authorization"))
        return await admitted(request, secret if scheme.lower() == "bearer" else None, scopes.scopes)


caller = Bearer()  # the dependency of every route that is not open to all
