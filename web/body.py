"""Reading a request's JSON strictly: UTF-8, no NaN, no half surrogates; anything else is an answer, not a fault."""

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from broker.limits import cut
from web.problems import Problem

M = TypeVar("M", bound=BaseModel)


async def read(request: Request) -> Any:
    """What the body holds. Raises Problem: 400 for what is no JSON, 413 for too much, 415 for what says it is none.

    A page of another site can send a form or plain text without asking; JSON it cannot: so nothing else is taken.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(415, f"Content-Type is {cut(kind)!r}: send application/json")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Problem(400, f"the body is no JSON: {cut(str(error), 200)}") from None


def without_nul(value: str | None) -> str | None:
    """For a model's text that becomes a value of a statement. Raises ValueError."""
    if value is not None and "\0" in value:
        raise ValueError("it contains a NUL character, which Postgres does not store: leave it out")
    return value


def parsed(model: type[M], value: Any) -> M:
    """The value as this model. Raises RequestValidationError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None
