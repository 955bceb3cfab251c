"""What every page shares: its templates, its headers, and errors that are pages too."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, StreamingResponse

from web import problems
from web.pages import static, words
from web.problems import Problem

COOKIE = "gristmill"  # holds the token of whoever logged in
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # With none at all a browser would hide the origin of our own forms, too.
    "Referrer-Policy": "same-origin",
}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, auto_reload=False,  # templates of a newer version on the disk are not this process's
)  # fmt: skip
_templates.filters.update(words.FILTERS)
_templates.globals.update(query=words.query, static=static.ADDRESSES)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The page of this template."""
    logged_in = request.app.state.settings.guarded and COOKIE in request.cookies
    shown = {"path": request.scope["path"], "logged_in": logged_in, "again_s": None} | values
    return HTMLResponse(_templates.get_template(template).render(shown), status, HEADERS)


def errors(request: Request, problem: Problem) -> Response:
    """The page that says what went wrong; for those whom the door does not know, the one that asks for a token."""
    status, looks = problem.status_code, request.method in ("GET", "HEAD")
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    here = f"{path}?{query}" if query else path
    login = f"/login?{urlencode({'next': here if looks else '/'})}"
    if status == HTTPStatus.UNAUTHORIZED and looks:
        return RedirectResponse(login, 303, HEADERS)
    locked = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and request.app.state.settings.guarded
    answer = page(
        request, "error.html", status, title=HTTPStatus(status).phrase, code=status, detail=problem.detail,
        away=problem.away, here=here, login=login if locked else None,
        again_s=5 if status == HTTPStatus.SERVICE_UNAVAILABLE and looks else None,
    )  # fmt: skip
    for name in ("Retry-After", "Allow"):
        if value := (problem.headers or {}).get(name):
            answer.headers[name] = value
    return answer


class PageRoute(APIRoute):
    """A route whose errors are pages. What may be read may be asked for its headers alone, but for a stream: it would
    be opened, and nobody would end it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        methods = options.get("methods") or ()
        if "GET" in methods and options.get("response_class") is not StreamingResponse:
            options["methods"] = {*methods, "HEAD"}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                answer = await handle(request)
            except Exception as error:
                answer = errors(request, problems.of(error))
            if request.method == "HEAD":
                answer.body = b""  # the length in its headers stays that of what GET would send
            return answer

        return shown


def pages() -> APIRouter:
    """A router for some of them."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)
