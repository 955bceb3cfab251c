"""What goes wrong, as RFC 9457 says it: one form for every error, from the exceptions that there are.

The `code` is stable; the `detail` names the value and the remedy. Of what nobody expected, nothing leaves but a number
by which the log names it.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy.exc import DBAPIError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from broker.errors import GristmillError, InvalidParams, Unavailable, UnknownJob
from broker.limits import cut, shown
from db.idempotency import OtherRequest
from db.read import NotFound
from db.settings import SettingsError, redact
from db.store import ArtifactError, NoSpace
from web.settings import API

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
UNKNOWN_KIND = "unknown-kind"
RETRY_AFTER_S = 2
_MOST_SAID = 5
POSTGRES = "Postgres"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MACHINES = ("/api/", "/predict", "/health/", "/metrics")  # whatever they accept, they are told in JSON

# Where a status of HTTP says all that there is to say.
_CODES = {
    400: "malformed", 401: "unauthenticated", 403: "forbidden", 404: "not-found", 405: "method-not-allowed",
    409: "conflict", 413: "too-large", 415: "not-json", 416: "range-not-satisfiable", 422: "invalid",
    429: "too-many-requests", 500: "internal", 503: "unavailable", 504: "too-late",
}  # fmt: skip


class ProblemDetails(BaseModel):
    """An error."""

    type: str
    title: str
    status: int
    code: str
    detail: str | None = None


class Problem(HTTPException):
    """An answer that is an error."""

    def __init__(
        self, status: int, detail: str, code: str | None = None, headers: dict[str, str] | None = None,
        away: str | None = None,
    ):  # fmt: skip
        super().__init__(status, detail, headers)
        self.code = code or _CODES.get(status, "error")
        self.away = away  # the server that does not answer


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route: which errors it may answer with, beside those that any may."""
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


# Whatever the route: no body or a bad one, no token or a weak one, too much or too often, and the servers behind it.
ANYWHERE = documented(400, 401, 403, 413, 422, 429, 500, 503)


def of(error: Exception) -> Problem:
    """What the caller is told of an error."""
    match error:
        case Problem():
            return error
        case HTTPException():
            return Problem(error.status_code, _plain(error), headers=dict(error.headers or {}))
        case RequestValidationError():
            return Problem(422, _together([_line(each) for each in error.errors()]), "invalid")
        case InvalidParams():
            others = list(error.fields.values())[1:]  # its own line is of the first
            return Problem(422, _together([str(error), *others]), "invalid-parameters")
        case OtherRequest():
            return Problem(422, str(error), "idempotency-key-reused")
        case UnknownJob():
            return Problem(404, str(error), UNKNOWN_KIND)
        case NotFound():
            return Problem(404, str(error).replace("`gristmill jobs`", f"GET {API}/jobs"))
        case NoSpace():
            return Problem(503, "the disk of the artifacts is full", headers=_retry())
        case ArtifactError():
            return Problem(404, str(error))
        case Unavailable():
            return Problem(503, redact(str(error)), headers=_retry(), away=POSTGRES)
        case SettingsError() | SQLAlchemyError() if _away(error):
            return Problem(503, f"{POSTGRES} does not answer: try again", headers=_retry(), away=POSTGRES)
        case ProgrammingError() if "UndefinedTable" in type(error.orig).__name__:
            return Problem(503, f"{POSTGRES} has no tables of ours: run `gristmill migrate`", headers=_retry())
        case GristmillError():
            return Problem(409, redact(str(error)))
    number = uuid4().hex[:12]
    log.error("request_failed", number=number, exc_info=error)
    return Problem(500, f"this is a fault of the server: its log has it under {number}")


# Paths that have a form of their own for errors.
SHAPES: dict[str, Callable[[Problem], Response]] = {}


def response(problem: Problem, path: str) -> Response:
    """The problem on the wire, as the answer to a request for this path."""
    if (shape := SHAPES.get(path)) is not None:
        return shape(problem)
    status = problem.status_code
    content = {
        "type": "about:blank" if problem.code == _CODES.get(status) else f"urn:gristmill:problem:{problem.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": problem.code,
        "detail": problem.detail,
    }
    return Response(to_json(content), status, problem.headers, MEDIA_TYPE)


def told(request: Request, problem: Problem) -> Response:
    """The problem as whoever asked reads it: a browser that is not at the API gets the app's page for it."""
    shown = getattr(request.app.state, "problem_page", None)
    path: str = request.scope["path"]  # not of its URL: a Host that is none would be an error
    reads = "text/html" in request.headers.get("accept", "") and not path.startswith(_MACHINES)
    return shown(request, problem) if shown and reads else response(problem, path)


def install(app: FastAPI) -> None:
    """Let the app answer with problems."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            error.headers = {**(error.headers or {}), "Allow": ", ".join(_allowed(request))}
        return told(request, of(error))

    for kind in (HTTPException, RequestValidationError, GristmillError, NotFound, OtherRequest, ArtifactError,
                 SettingsError, SQLAlchemyError, Exception):  # fmt: skip
        app.add_exception_handler(kind, answer)


def _allowed(request: Request) -> list[str]:
    """The methods of all routes of this path: the router knows those of the first only."""
    routes, scope = request.app.routes, request.scope
    return [
        method for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]  # fmt: skip


def _away(error: Exception) -> bool:
    """Whether it is Postgres that is away, and not a statement of ours that is wrong."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError")
    return isinstance(error, SettingsError | PoolTimeout)


def _plain(error: HTTPException) -> str:
    if error.status_code == 404 and error.detail == "Not Found":
        return "there is nothing at this path: pages begin at /, and /api/openapi.json lists what the API has"
    if error.status_code == 405:
        return f"this path takes {(error.headers or {}).get('Allow', 'another method')} only"
    return str(error.detail)


def _line(complaint: Mapping[str, Any]) -> str:
    """One complaint, with the value."""
    where = cut(".".join(str(part) for part in complaint["loc"])) or "the body"
    if complaint["type"] == "missing":
        return f"{where} is required"
    message = cut(complaint["msg"].removeprefix("Value error, "), 300)
    if complaint["type"] in ("model_type", "dict_type"):
        message = "give a JSON object, {…}"
    return f"{where}={shown(complaint.get('input'))}: {message[:1].lower()}{message[1:]}"


def _together(lines: Sequence[str]) -> str:
    more = len(lines) - _MOST_SAID
    return "; ".join([*lines[:_MOST_SAID], *([f"and {more} more"] if more > 0 else [])])


def _retry() -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S)}
