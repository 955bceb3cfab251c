"""POST /predict: which class a text is of. No model is here: requests become jobs, which batch on the worker.

The contract is older than this door: {"text": …} is answered with {"text": …, "pred_class": …, "status": 200}, and
errors are of the same form.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response, Security
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import to_json
from starlette.responses import JSONResponse

from broker.errors import InvalidParams
from db.engine import session
from db.ledger import NewJob
from db.settings import redact
from db.state import SUCCESS
from db.token import SUBMIT
from db.watch import Outcome
from jobs.classify import serve
from jobs.classify.tasks import ANSWERS, TEXT_CHARACTERS
from jobs.classify.tasks import predict as predict_job
from web import body, problems
from web.body import parsed, without_nul
from web.problems import Problem
from web.settings import Settings
from web.tokens import Caller, caller

router = APIRouter(tags=["predict"])

PATH = "/predict"
EMPTY = "the text is empty: leave it out"
_CHUNK_CHARACTERS = 200_000  # of texts in one job, whose parameters are a row
_KNOWN_S = 10.0


Texts = Annotated[list[str], Field(min_length=1, max_length=ANSWERS)]


class Question(BaseModel):
    """One text, or several."""

    model_config = ConfigDict(extra="forbid")

    text: str | Texts | None = Field(default=None, description="One, or several as with `texts`.")
    texts: Texts | None = None
    model: str | None = Field(default=None, min_length=1, max_length=120, description="NAME or NAME@VERSION.")

    _storable = field_validator("model")(without_nul)

    @model_validator(mode="after")
    def _one_of_them(self) -> "Question":
        if (self.text is None) == (self.texts is None):
            raise ValueError("give text or texts, one of the two")
        return self


class Answer(BaseModel):
    """What became of one text; `detail` is there when its status is not 200."""

    text: str | None
    pred_class: str | None
    status: int
    detail: str | None = None


def _shaped(problem: Problem, text: str | None = None) -> Response:
    content = {"text": text, "pred_class": None, "status": problem.status_code, "detail": problem.detail}
    return Response(to_json(content), problem.status_code, problem.headers, "application/json")


problems.SHAPES[PATH] = _shaped

_ERRORS = {status: {"model": Answer} for status in (400, 401, 403, 413, 415, 422, 429, 500, 503, 504)}


class Chosen:
    """The model that is asked when a request names none; looked up every few seconds."""

    def __init__(self, settings: Settings) -> None:
        self._wanted, self._found, self._until = settings.predict_model, "", 0.0

    def name(self) -> str:
        """Asks Postgres: call it in another thread. Raises Problem 503."""
        if self._wanted:
            return self._wanted
        if time.monotonic() >= self._until:
            with session() as opened:
                there = serve.in_use(opened)
            if len(there) != 1:
                remedy = "name one as model in the request, or in GRISTMILL_PREDICT_MODEL"
                several = f"several classifiers are in use ({', '.join(there[:5])}): {remedy}"
                none = "no classifier is in use: train one, or name one of the registry as model in the request"
                raise Problem(503, several if there else none)
            self._found, self._until = there[0], time.monotonic() + _KNOWN_S
        return self._found


@router.post(
    PATH,
    response_model=Answer | list[Answer],
    responses=_ERRORS,  # type: ignore[arg-type]
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": Question.model_json_schema()}}}
    },
)
async def predict(request: Request, who: Annotated[Caller, Security(caller, scopes=[SUBMIT])]) -> Response:
    """Say which class a text is of: {"text", "pred_class", "status"}. Of several texts it is a list of these, each with
    a status of its own."""
    asked = parsed(Question, await body.read(request))
    one = asked.text if isinstance(asked.text, str) else None
    texts = [one] if one is not None else list(asked.texts or asked.text or ())
    try:
        found = await _ask(request, texts, asked.model)
    except InvalidParams as error:
        return _shaped(Problem(422, str(error)), one)
    except Problem as problem:
        return _shaped(problem, one)
    if one is not None and found[0]["status"] != 200:
        return JSONResponse(found[0], found[0]["status"])
    return Response(to_json(found if one is None else found[0]), media_type="application/json")


async def _ask(request: Request, texts: list[str], model: str | None) -> list[dict[str, Any]]:
    """The answer to each. Raises Problem."""
    state = request.app.state
    good = [number for number, text in enumerate(texts) if text.strip()]
    labels: dict[int, str] = {}
    chunks = list(_chunks(texts, good))
    limit_s = state.settings.predict_seconds
    ids = [uuid4() for _ in chunks]
    with state.feed.expecting(ids) as futures:
        deadline = time.monotonic() + limit_s

        def draft(job_id: UUID, chunk: list[int]) -> NewJob:
            named = model or state.chosen.name()
            if len(texts) == 1:
                params: dict[str, Any] = {"model": named, "text": texts[0]}
            else:
                params = {"model": named, "texts": [texts[number] for number in chunk]}
            return predict_job.draft(params, task_id=str(job_id), expires=limit_s)

        await asyncio.gather(
            *(
                state.gather.submit(lambda job_id=job_id, chunk=chunk: draft(job_id, chunk))
                for job_id, chunk in zip(ids, chunks, strict=True)
            )
        )
        if futures:
            await asyncio.wait(futures, timeout=max(0.0, deadline - time.monotonic()))
        for chunk, future in zip(chunks, futures, strict=True):
            if not future.done():
                raise Problem(504, f"no answer within {limit_s:g} s: is a cpu worker running, and is it keeping up?")
            labels.update(zip(chunk, _labels(future.result()), strict=True))
    return [_answer(text, labels.get(number)) for number, text in enumerate(texts)]


def _answer(text: str, label: str | None) -> dict[str, Any]:
    if label is None:
        return {"text": text, "pred_class": None, "status": 422, "detail": EMPTY}
    return {"text": text, "pred_class": label, "status": 200}


def _labels(outcome: Outcome) -> list[str]:
    if outcome.state != SUCCESS:
        said = redact(str((outcome.error or {}).get("message", "it was not started in time")))
        raise Problem(503, f"job {outcome.id} ended {outcome.state}: {said}")
    found = outcome.result if isinstance(outcome.result, list) else [outcome.result]
    return [each["label"] for each in found]


def _chunks(texts: list[str], numbers: list[int]) -> Iterator[list[int]]:
    """Texts that one job takes together."""
    chunk: list[int] = []
    size = 0
    for number in numbers:
        characters = min(len(texts[number]), TEXT_CHARACTERS)
        if chunk and size + characters > _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
        chunk.append(number)
        size += characters
    if chunk:
        yield chunk
