"""What every page shares: its templates, its headers, and errors that are pages too."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from web import problems
from web.pages import static, words
from web.problems import Problem

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # With none at all a browser would hide the origin of our own forms, too.
    "Referrer-Policy": "same-origin",
}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_templates.filters.update(words.FILTERS)
_templates.globals.update(query=words.query, static=static.ADDRESSES)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """The page of this template."""
    shown = {"path": request.url.path, "guarded": request.app.state.settings.guarded, "again_s": None} | values
    return HTMLResponse(_templates.get_template(template).render(shown), status, HEADERS)


def errors(request: Request, problem: Problem) -> Response:
    """The page that says what went wrong; for those whom the door does not know, the one that asks for a token."""
    status = problem.status_code
    if status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?{urlencode({'next': asked})}", 303, HEADERS)
    answer = page(
        request, "error.html", status, title=HTTPStatus(status).phrase, code=status, detail=problem.detail,
        again_s=5 if status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET" else None,
    )  # fmt: skip
    for name in ("Retry-After",):
        if value := (problem.headers or {}).get(name):
            answer.headers[name] = value
    return answer


class PageRoute(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Handler:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                return errors(request, problems.of(error))

        return shown


def pages() -> APIRouter:
    """A router for some of them."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)
