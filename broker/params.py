"""Parameters of a job: a pydantic model, checked at submission, refused in one line that names the value."""

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from broker import limits
from broker.errors import InvalidParams
from broker.limits import cut, shown


class Params(BaseModel):
    """The base of a job's parameters. Its docstring is the job's one-line description."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def parse(kind: str, model: type[BaseModel], args: Sequence[Any], kwargs: Mapping[str, Any]) -> BaseModel:
    """The parameters of a call; positional ones fill the fields in their order. Raises InvalidParams."""
    if args:
        kwargs = _by_name(kind, list(model.model_fields), args, kwargs)
    try:
        params = model.model_validate(kwargs)
    except ValidationError as error:
        raise InvalidParams(f"{kind}: {_line(error, list(model.model_fields))}") from None
    try:
        encoded = params.model_dump_json().encode()
    except PydanticSerializationError as error:
        if "depth exceeded" in str(error):  # pydantic's own limit is beyond ours
            raise InvalidParams(f"{kind}: parameters {limits.TOO_DEEP}") from None
        raise InvalidParams(f"{kind}: the parameters cannot be written as JSON: {cut(str(error))}") from None
    limits.check(f"{kind}: parameters", encoded, limits.PARAMS_BYTES, limits.PARAMS_DEPTH)
    return params


def _by_name(kind: str, fields: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if len(args) > len(fields):
        raise InvalidParams(f"{kind} takes {_listed(fields)}, but {len(args)} positional arguments were given")
    named = dict(zip(fields, args, strict=False))
    if twice := named.keys() & kwargs.keys():
        raise InvalidParams(f"{kind}: {sorted(twice)[0]} is given twice, by position and by name")
    return {**named, **kwargs}


def _line(error: ValidationError, fields: Sequence[str]) -> str:
    """The first complaint, with the value and what would be right."""
    complaints = error.errors(include_url=False)
    # A mistyped name is also a missing one: the typo is what the user wants to hear of.
    first = next((each for each in complaints if each["type"] == "extra_forbidden"), complaints[0])
    name = cut(".".join(str(part) for part in first["loc"]))
    if first["type"] == "missing":
        return f"{name} is required: the parameters are {_listed(fields)}"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, fields, 1)
        hint = f"did you mean {near[0]}?" if near else f"the parameters are {_listed(fields)}"
        return f"unknown parameter {name}: {hint}"
    message = cut(first["msg"].removeprefix("Value error, "), 300)
    return (
        f"{name}={shown(first['input'], partial(json.dumps, default=str))}: {message[:1].lower()}{message[1:]}"
        if name
        else message
    )


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(fields) or "no parameters"
