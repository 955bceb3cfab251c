"""The declared jobs as the web door shows them: their parameters' JSON schemas are the API's."""

import inspect
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from broker.job import Job, declared, find

REFERENCES = "#/components/schemas/{model}"


class Kind(BaseModel):
    """A kind of job."""

    kind: str
    description: str
    queue: str
    priority: str
    max_attempts: int
    time_limit_s: float | None
    batch: int | None


class KindWithParameters(Kind):
    """A kind of job, and what it takes."""

    parameters: dict[str, Any]


@cache
def kinds() -> dict[str, Job]:
    """Every declared job, imported once."""
    return declared()


def job(kind: str) -> Job:
    """The declared job of this kind. Raises UnknownJob with the nearest names."""
    return kinds().get(kind) or find(kind)


def described(found: Job) -> Kind:
    """What a list shows of it."""
    return Kind(
        kind=found.name, description=_said(found), queue=found.queue_name, priority=found.priority_name,
        max_attempts=found.attempts, time_limit_s=found.limit_s, batch=found.batch_size,
    )  # fmt: skip


def detailed(found: Job) -> KindWithParameters:
    """The same with its parameters' JSON schema."""
    return KindWithParameters(**described(found).model_dump(), parameters=found.params_model.model_json_schema())


def schemas() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """For the OpenAPI document: for each kind the schema of its parameters, and the definitions that they refer to."""
    models = {each.params_model: each.name for each in kinds().values()}
    made, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCES)
    by_kind = {each.name: made[each.params_model, "validation"] for each in kinds().values()}
    return by_kind, definitions.get("$defs", {})


def _said(found: Job) -> str:
    text = inspect.cleandoc(found.params_model.__doc__ or found.body.__doc__ or "")
    return text.partition("\n\n")[0].replace("\n", " ")
