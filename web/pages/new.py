"""`/new`: the kinds of jobs; `/new/{kind}`: a form for each, made of its parameters' schema, that submits one."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from broker.errors import InvalidParams
from broker.fields import Field, fields
from broker.job import Job
from broker.limits import shown
from broker.params import parse, refusals
from db import read
from db.engine import session
from db.settings import redact
from db.token import SUBMIT
from jobs.training.options import Acceleration
from web import submission
from web.catalogue import described, job, kinds
from web.pages.entry import Reader, Submitter, form
from web.pages.frame import HEADERS, page, pages
from web.pages.inputs import Input, as_typed, values
from web.submission import Submission
from web.tokens import Caller

router = pages()

_PARAMS = "params."  # before the names of parameters: the submission's own options have some of the same names
_OPTIONS = {name: each for name, each in fields(Submission).items() if name not in ("kind", "params")}
_NONCE = "nonce"
_SENT = {_NONCE, *_OPTIONS}
_BYTES = 4 << 20

Sent = Mapping[str, str]


@router.get("/new")
def list_kinds(request: Request, who: Reader) -> Response:
    """What can be submitted, by family."""
    found = [described(each) for each in kinds().values()]
    families = [(name, list(of)) for name, of in groupby(found, lambda each: each.kind.partition(".")[0])]
    return page(request, "kinds.html", families=families)


@router.get("/new/{kind}")
def show_form(
    request: Request, who: Reader, kind: str, like: Annotated[str, Query(alias="from", max_length=100)] = ""
) -> Response:
    """The form, empty or as another job of this kind was submitted."""
    found = job(kind)
    return _form(request, who, found, _of(found, like) if like else None)


@router.post("/new/{kind}")
async def submit_job(request: Request, who: Submitter, kind: str) -> Response:
    """Submit what was typed, and show the job; or the form again, with what is wrong beside it."""
    found, sent = job(kind), await form(request, _BYTES)
    try:
        made = await submission.one(request.app.state.gather, _asked(found, sent), who.name, _once(kind, sent))
    except InvalidParams as error:
        return await run_in_threadpool(_form, request, who, found, sent, error)
    return RedirectResponse(f"/jobs/{made.id}{'?again=1' if made.already_live else ''}", 303, HEADERS)


def _asked(found: Job, sent: Sent) -> Submission:
    """Raises InvalidParams with all that is wrong, not just the first."""
    takes, own = fields(found.params_model), _own(sent)
    refused = {name: _unknown(name, takes) for name in sent if name not in _SENT and not name.startswith(_PARAMS)}
    if not sent.get(_NONCE):
        refused[_NONCE] = f"this form has no {_NONCE}: submit the one that GET /new/{found.name} shows"
    params, wrong = values(found.name, takes.values(), own)
    # What nobody offered is passed on as well, to be refused by its name.
    params |= {name: text for name, text in own.items() if name not in takes}
    try:
        parse(found.name, found.params_model, (), params)
    except InvalidParams as error:
        wrong = error.fields | wrong
    wrong = {_PARAMS + name: line for name, line in wrong.items()}
    options, _ = values(found.name, _OPTIONS.values(), sent)
    try:
        asked = Submission.model_validate({"kind": found.name, "params": params, **options})
    except ValidationError as error:
        wrong |= refusals(error, list(_OPTIONS))
    if wrong := wrong | refused:
        raise InvalidParams(f"{found.name}: {next(iter(wrong.values()))}", wrong)
    return asked


def _unknown(name: str, takes: Mapping[str, Field]) -> str:
    """What would go unheard, and the job run with its defaults."""
    meant = f"did you mean {_PARAMS}{name}?" if name in takes else f"parameters are named {_PARAMS}NAME"
    return f"this form has no field {shown(name)}: {meant}"


def _own(sent: Sent) -> dict[str, str]:
    return {name.removeprefix(_PARAMS): text for name, text in sent.items() if name.startswith(_PARAMS)}


def _once(kind: str, sent: Sent) -> str:
    """An idempotency key: the same form sent twice, as by two clicks, is one job; changed, it is another."""
    return hashlib.sha256(repr((kind, sorted(sent.items()))).encode("utf-8", "surrogatepass")).hexdigest()


def _form(request: Request, who: Caller, found: Job, sent: Sent | None, error: InvalidParams | None = None) -> Response:
    wrong = _by_field(found, error) if error else {}
    given = sent if sent is not None else {
        _PARAMS + name: "on" for name, each in fields(found.params_model).items() if each.is_flag and each.default
    }  # fmt: skip

    def made(each: Field, prefix: str = "") -> Input:
        name = prefix + each.name
        otherwise = "as acceleration decides" if prefix and each.name in training else _otherwise(each)
        return Input(each, name, given.get(name), wrong.get(name, ""), otherwise)

    training = Acceleration.model_fields if issubclass(found.params_model, Acceleration) else {}
    parameters = [made(each, _PARAMS) for each in fields(found.params_model).values()]
    parameters.sort(key=lambda each: not each.field.required)
    instead: dict[str, Any] = {
        "priority": found.priority_name, "queue": found.queue_name, "max_attempts": found.attempts,
        "time_limit_s": found.limit_s or "none", "delay_s": 0, "expires_s": "never", "owner": "nobody",
    }  # fmt: skip
    parts = {
        "": [each for each in parameters if each.field.name not in training],
        "How to train": [each for each in parameters if each.field.name in training],
        "How to submit": [made(replace(each, default=instead.get(name))) for name, each in _OPTIONS.items()],
    }
    beside = [each for part in parts.values() for each in part if each.wrong]
    said = [line for name, line in wrong.items() if name not in {each.name for each in beside}]
    return page(
        request, "new.html", 422 if error else 200, kind=described(found), parts=parts, may=who.may(SUBMIT),
        said=said, beside=beside, nonce=secrets.token_urlsafe(12),
    )  # fmt: skip


def _by_field(found: Job, error: InvalidParams) -> dict[str, str]:
    """What is wrong, by the fields of the form. What was found of all parameters together, or where the data are looked
    at, begins with the name of one."""
    names = {name: name for name in _OPTIONS} | {name: _PARAMS + name for name in fields(found.params_model)}
    by_field = {}
    for name, line in (error.fields or {"": str(error)}).items():
        begins_with = None if name in names.values() else re.match(r"(\w+)[=:]", line)
        by_field[names.get(begins_with[1], name) if begins_with else name] = line
    return by_field


def _otherwise(field: Field) -> str:
    """What an empty field stands for. Where another one decides, such as a preset, its description says what it is."""
    return "by default" if "Default: " in field.description else "not given"


def _of(found: Job, like: str) -> dict[str, str]:
    """What that job was submitted with, but for what holds a secret."""
    with session() as opened:
        params = read.show(opened, like).params
    given = as_typed(fields(found.params_model).values(), params)
    return {_PARAMS + name: text for name, text in given.items() if redact(text) == text}
