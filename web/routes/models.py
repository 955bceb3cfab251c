"""The registry of models: versions, their metrics, what they came from, and which one is in use."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Security

from db import read, registry, switch
from db.artifact import Model
from db.engine import session
from db.read import ModelRow, NotFound
from db.token import ADMIN, READ
from web.problems import Problem, documented
from web.settings import API
from web.tokens import caller
from web.views import Shown

router = APIRouter(prefix=API, tags=["models"])

_READER = [Security(caller, scopes=[READ])]
_ADMIN = [Security(caller, scopes=[ADMIN])]

Name = Annotated[str, Path(max_length=200)]
Version = Annotated[int, Path(ge=1, lt=2**31)]


class ModelVersion(Shown):
    """One version of a model."""

    name: str
    version: int
    is_current: bool
    artifact_digest: str
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    job_id: UUID | None
    created_at: datetime


@router.get("/models", dependencies=_READER, responses=documented(422))
def list_models(name: Annotated[str | None, Query(max_length=200)] = None) -> list[ModelVersion]:
    """Every version of every model, or of one, the newest first."""
    with session() as opened:
        return [_shown(row) for row in read.models(opened) if name in (None, row.name)]


@router.get("/models/{name}/{version}", dependencies=_READER, responses=documented(404, 422))
def show_model(name: Name, version: Version) -> ModelVersion:
    """One version."""
    return _one(name, version)


@router.post("/models/{name}/{version}/promote", dependencies=_ADMIN, responses=documented(404, 422))
def promote_model(name: Name, version: Version) -> ModelVersion:
    """Put a version into use, such as an older one after a bad training."""
    if not switch.promote(name, version):
        raise _missing(name, version)
    return _one(name, version)


@router.post("/models/{name}/rollback", dependencies=_ADMIN, responses=documented(404, 409, 422))
def rollback_model(name: Name) -> ModelVersion:
    """Put the version back into use that was so before the present one."""
    switched = switch.rollback(name)
    if switched.was is None:
        raise NotFound(f"no version of {name!r} is in use")
    if switched.now is None:
        raise Problem(409, f"nothing was in use before {name!r} version {switched.was}")
    return _one(name, switched.now)


def _one(name: str, version: int) -> ModelVersion:
    with session() as opened:
        found = registry.find(opened, name, version)
        if found is None:
            raise _missing(name, version)
        return _shown(found)


def _shown(row: ModelRow | Model) -> ModelVersion:
    return ModelVersion.model_validate(row, from_attributes=True)


def _missing(name: str, version: int) -> NotFound:
    return NotFound(f"there is no model {name!r} version {version}: GET /api/v1/models lists what there is")
