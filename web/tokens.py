"""Who calls, and what he may do: bearer tokens with scopes, known for a few seconds once they were looked up."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool

from db import token
from db.engine import session
from db.token import ADMIN, Holder
from web.problems import Problem

KNOWN_S = 5.0  # after this a revoked token is known to be one
_KEPT = 1000

_bearer = HTTPBearer(auto_error=False, description="A token of `gristmill tokens create`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent the request."""

    name: str  # for limits, and for idempotency keys: each caller has his own
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether a token of his has this scope."""
        return scope in self.scopes or ADMIN in self.scopes


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


async def caller(
    scopes: SecurityScopes,
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None,
) -> Caller:
    """The dependency of every route that is not open to all. Raises Problem: 401, 403, 429."""
    state = request.app.state
    address = request.client.host if request.client else "?"
    if not state.settings.guarded:
        state.rates.spend(address)
        return Caller("loopback", frozenset({ADMIN}))
    found = await state.tokens.holder(given.credentials) if given else None
    if found is None:
        state.rates.spend(address)
        said = "this token is not known, was revoked or has expired" if given else "a bearer token is needed"
        challenge = 'Bearer error="invalid_token"' if given else "Bearer"
        remedy = "`gristmill tokens create NAME` makes one"
        raise Problem(401, f"{said}: {remedy}", headers={"WWW-Authenticate": challenge})
    state.rates.spend(str(found.id))
    who = Caller(str(found.id), found.scopes)
    if lacking := [scope for scope in scopes.scopes if not who.may(scope)]:
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(scopes.scopes)}"'
        detail = f"token {found.name!r} has no scope {lacking[0]!r}: make one that has"
        raise Problem(403, detail, headers={"WWW-Authenticate": challenge})
    return who
