"""`/models/{name}/{version}/promote`: what changes once this version is in use, and the button that puts it there."""

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from db import measured, registry
from db.engine import session
from db.read import NotFound
from db.recommend import MODEL
from jobs.training.registered import scores
from web.pages.entry import Administrator, form
from web.pages.frame import HEADERS, page, pages
from web.pages.words import model
from web.problems import Problem
from web.routes.models import Name, Version, promote_model

router = pages()

_OVER = "over"  # the field that says which version was in use when one decided; empty: none was


@router.get("/models/{name}/{version}/promote")
def ask(request: Request, who: Administrator, name: Name, version: Version) -> Response:
    """What is in use, what would be, and what that loses. Raises NotFound."""
    with session() as opened:
        versions = measured.versions(opened, name)
        lists = measured.lists(opened, version) if name == MODEL else None
    new = next((each for each in versions if each.version == version), None)
    if new is None:
        raise NotFound(f"there is no version {version} of a model {name!r}: /models lists what there is")
    if new.is_current:
        return RedirectResponse(model(name, version), 303, HEADERS)
    now = next((each for each in versions if each.is_current), None)
    return page(request, "promote.html", name=name, new=new, now=now, lists=lists, scores=scores, field=_OVER)


@router.post("/models/{name}/{version}/promote")
async def promote(request: Request, who: Administrator, name: Name, version: Version) -> Response:
    """Put it into use, if what goes out of use for it is still what was shown. Raises Problem 409, NotFound."""
    shown = (await form(request)).get(_OVER, "")
    if (now := await run_in_threadpool(_in_use, name)) != shown:
        said = f"version {now} of {name!r} is" if now else f"no version of {name!r} is"
        raise Problem(409, f"{said} in use now, not what was when you looked: look at the model again, and decide anew")
    await run_in_threadpool(promote_model, name, version)
    return RedirectResponse(model(name, version), 303, HEADERS)


def _in_use(name: str) -> str:
    with session() as opened:
        found = registry.current(opened, name)
        return str(found.version) if found else ""
