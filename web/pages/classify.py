"""`/classify`: a text, or several, and which classes they may be of. The model is on a worker: a question is a job."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from broker.errors import InvalidParams
from db import read
from db.engine import session
from db.read import JobDetail, NotFound
from db.state import FINAL, SUCCESS
from db.token import SUBMIT
from jobs.classify import serve
from jobs.classify.tasks import predict as job
from web.pages.entry import Reader, Submitter, form
from web.pages.frame import HEADERS, page, pages
from web.pages.words import reason
from web.routes.health import redis_now

router = pages()

CLASSES = 5  # named for each text
LINES = 100  # texts of one question
_FORM_BYTES = 1_000_000  # a long document, each of whose letters a form may send as nine
_EXPIRES_S = 3600.0  # whom nobody answers for so long has gone

Text = Annotated[str, Query(max_length=200)]


@router.get("/classify")
async def show_classify(
    request: Request, who: Reader, asked: Annotated[str, Query(alias="job", max_length=36)] = "", model: Text = ""
) -> Response:
    """The form; with `job` the answer of that one, which is waited for."""
    found = await _answered(request, asked) if asked else None
    params = found.params if found else {}
    texts = params.get("texts") or ([params["text"]] if found else [])
    filled = {"text": "\n".join(texts), "model": params.get("model") or model, "lines": params.get("texts") is not None}
    return await _shown(request, who.may(SUBMIT), filled, found=found)


@router.post("/classify")
async def ask(request: Request, who: Submitter) -> Response:
    """Submit it, and go to where its answer will be: a reload asks nothing twice."""
    given = await form(request, _FORM_BYTES)
    text, model, lines = given.get("text", ""), given.get("model", ""), "lines" in given
    try:
        texts = _texts(text, lines=lines)
        params = {"model": model, "top_k": CLASSES, **({"texts": texts} if lines else {"text": texts[0]})}
        _, job_id = await request.app.state.gather.submit(lambda: job.draft(params, expires=_EXPIRES_S))
    except InvalidParams as error:
        filled = {"text": text, "model": model, "lines": lines}
        return await _shown(request, True, filled, status=422, said=str(error))
    return RedirectResponse(f"/classify?job={job_id}", 303, HEADERS)


def _texts(text: str, *, lines: bool) -> list[str]:
    """Raises InvalidParams for none, and for too many."""
    texts = [line.strip() for line in text.splitlines() if line.strip()] if lines else [text.strip()]
    if not any(texts):
        raise InvalidParams("there is no text: write one")
    if len(texts) > LINES:
        raise InvalidParams(f"{len(texts):,} lines: ask about {LINES} at once, or send all to POST /predict")
    return texts


async def _shown(
    request: Request, may: bool, filled: dict[str, Any], *, status: int = 200, said: str | None = None,
    found: JobDetail | None = None,
) -> Response:  # fmt: skip
    models = await run_in_threadpool(_models)
    wanted = filled["model"] or request.app.state.settings.predict_model or ""
    if wanted and wanted not in models:  # such as NAME@VERSION
        models = [*models, wanted]
    live = found is not None and found.state not in FINAL
    redis_away = live and await run_in_threadpool(redis_now) == "away"
    return page(
        request, "classify.html", status, models=models, filled=filled | {"model": wanted}, may=may, said=said,
        job=found, live=live, redis_away=redis_away, answers=_answers(found), again_s=3 if live else None, lines=LINES,
        error=reason(found) if found else "",
    )  # fmt: skip


def _models() -> list[str]:
    with session() as opened:
        return serve.in_use(opened)


async def _answered(request: Request, job_id: str) -> JobDetail:
    """The job, final if a worker answers within the time that POST /predict has. Raises NotFound."""
    found = await run_in_threadpool(_job, job_id)
    if found.state not in FINAL:
        await request.app.state.feed.final(found.id, request.app.state.settings.predict_seconds)
        found = await run_in_threadpool(_job, job_id)
    return found


def _job(job_id: str) -> JobDetail:
    with session() as opened:
        found = read.show(opened, job_id)
    if found.kind != job.name:
        raise NotFound(f"job {str(found.id)!r} is a {found.kind}, no question to a classifier")
    return found


def _answers(found: JobDetail | None) -> list[tuple[str, dict[str, Any]]]:
    """Each text with its answer; none while there is none."""
    if found is None or found.state != SUCCESS:
        return []
    results = found.result if isinstance(found.result, list) else [found.result]
    texts = found.params.get("texts") or [found.params.get("text")]
    return list(zip(texts, results, strict=True))
