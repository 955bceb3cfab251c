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
        said = refusals(error, list(model.model_fields))
        raise InvalidParams(f"{kind}: {next(iter(said.values()))}", said) from None
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


def refusals(error: ValidationError, fields: Sequence[str]) -> dict[str, str]:
    """The first complaint about each field, with the value and what would be right; "" stands for all together."""
    complaints = error.errors(include_url=False)
    # A mistyped name is also a missing one: the typo is what the user wants to hear of.
    complaints.sort(key=lambda each: each["type"] != "extra_forbidden")
    said: dict[str, str] = {}
    for each in complaints:
        said.setdefault(str(each["loc"][0]) if each["loc"] else "", _line(each, fields))
    return said


def _line(complaint: Mapping[str, Any], fields: Sequence[str]) -> str:
    name = cut(".".join(str(part) for part in complaint["loc"]))
    if complaint["type"] == "missing":
        return f"{name} is required: the parameters are {_listed(fields)}"
    if complaint["type"] == "extra_forbidden":
        if len(complaint["loc"]) > 1:  # of a part that has names of its own
            return f"unknown parameter {name}: correct its name or leave it out"
        near = difflib.get_close_matches(name, fields, 1)
        hint = f"did you mean {near[0]}?" if near else f"the parameters are {_listed(fields)}"
        return f"unknown parameter {name}: {hint}"
    message = cut(complaint["msg"].removeprefix("Value error, "), 300)
    return (
        f"{name}={shown(complaint['input'], partial(json.dumps, default=str))}: {message[:1].lower()}{message[1:]}"
        if name
        else message
    )


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(fields) or "no parameters"
