"""Who looks at a page: whoever is on this machine, or a cookie that a bearer token was exchanged for.

The cookie holds the token itself, out of reach of scripts: what is revoked is so here too, and no process has to
remember sessions. A change is only taken from our own pages: browsers say where a form was sent from.
"""

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import Depends, Query, Request, Response
from starlette.responses import RedirectResponse

from db.token import ADMIN, READ, SUBMIT
from web.pages.frame import COOKIE, HEADERS, page, pages
from web.problems import Problem
from web.tokens import Caller, admitted

_FORM_BYTES = 100_000


async def reader(request: Request) -> Caller:
    """A dependency: he may look. Raises Problem."""
    return await _known(request, READ)


async def submitter(request: Request) -> Caller:
    """A dependency: he may change something, and the request is from one of our pages. Raises Problem."""
    own_page(request)
    return await _known(request, SUBMIT)


async def administrator(request: Request) -> Caller:
    """A dependency: he may do all, and changes nothing but from one of our pages. Raises Problem."""
    if request.method == "POST":
        own_page(request)
    return await _known(request, ADMIN)


def own_page(request: Request) -> None:
    """Raises Problem 403 for a form that is not ours."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    same = urlsplit(origin).netloc == request.headers.get("host") if origin else False
    if not (site == "same-origin" if site else same) or (origin and not same):
        raise Problem(403, "this form was sent from another site: nothing was changed")


Reader = Annotated[Caller, Depends(reader)]
Submitter = Annotated[Caller, Depends(submitter)]
Administrator = Annotated[Caller, Depends(administrator)]
Next = Annotated[str, Query(max_length=2000)]

router = pages()


@router.get("/login")
async def show_login(request: Request, next: Next = "/") -> Response:
    """Ask for a token."""
    if not request.app.state.settings.guarded:
        return RedirectResponse("/", 303)
    return page(request, "login.html", next=_local(next), said=None)


@router.post("/login", dependencies=[Depends(own_page)])
async def log_in(request: Request, next: Next = "/") -> Response:
    """Exchange a token for the cookie."""
    secret = (await form(request)).get("token", "").strip()
    try:
        await _checked(request, secret or None, READ)
    except Problem as problem:
        if problem.status_code not in (401, 403):
            raise
        return page(request, "login.html", problem.status_code, next=_local(next), said=problem.detail)
    answer = RedirectResponse(_local(next), 303, HEADERS)
    tls = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    answer.set_cookie(COOKIE, secret, httponly=True, samesite="lax", secure=tls)
    return answer


@router.post("/logout", dependencies=[Depends(own_page)])
async def log_out(request: Request) -> Response:
    """Forget it."""
    answer = RedirectResponse("/login", 303, HEADERS)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


async def form(request: Request, most: int = _FORM_BYTES) -> dict[str, str]:
    """The fields of a form of so many bytes. Raises Problem."""
    body = await request.body()
    if len(body) > most:
        raise Problem(413, "this form holds too much")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError:
        raise Problem(400, "this is not what a form sends") from None
    if bad := next((name for name, values in fields.items() if "\0" in name or "\0" in values[-1]), None):
        raise Problem(400, f"the field {bad[:80]!r} contains a NUL character: leave it out")
    return {name: values[-1] for name, values in fields.items()}


async def _known(request: Request, scope: str) -> Caller:
    return await _checked(request, request.cookies.get(COOKIE), scope)


async def _checked(request: Request, secret: str | None, scope: str) -> Caller:
    return await admitted(request, secret, [scope])


def _local(address: str) -> str:
    """An address on this site, whatever was given."""
    plain = address.startswith("/") and address.isascii() and address.isprintable()
    return address if plain and not address.startswith("//") and "\\" not in address else "/"
