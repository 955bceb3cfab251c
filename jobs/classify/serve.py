"""Which classifier a name stands for, and opening it; needs neither torch nor numpy until one is opened."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from broker.errors import InvalidParams, JobError
from db.artifact import Artifact, Model
from db.engine import autocommit
from db.settings import settings
from db.store import ArtifactError, ArtifactStore
from jobs.training.registered import find, instead

if TYPE_CHECKING:
    from jobs.text.models import TextModel

log = structlog.get_logger()

KIND = "classify"
LOOK_AGAIN_S = 10.0  # a caller of thousands of predictions need not ask for each whether its model is known
_known_until: dict[str, float] = {}


def check_known(model: str, session: Session) -> None:
    """Raises InvalidParams for what is no classifier of the registry."""
    if time.monotonic() < _known_until.get(model, 0.0):
        return
    try:
        classifier(session, model)
    except JobError as error:
        raise InvalidParams(str(error)) from None
    _known_until[model] = time.monotonic() + LOOK_AGAIN_S


def classifier(session: Session, model: str) -> Model:
    """The version that a name stands for. Raises JobError for what is none, or of another kind."""
    found = find(session, model, KIND)
    kind = session.scalar(select(Artifact.kind).where(Artifact.digest == found.artifact_digest))
    if kind != KIND:
        raise JobError(f"model {model!r} is of kind {kind!r}, no classifier ({instead(session, model, KIND)})")
    return found


def forget_known() -> None:
    """Ask the registry again for every model; tests do, whose rows go away."""
    _known_until.clear()


def in_use(session: Session) -> list[str]:
    """The names of the classifiers that have a version in use."""
    current = select(Model.name).join(Artifact, Artifact.digest == Model.artifact_digest)
    return list(session.scalars(current.where(Model.is_current, Artifact.kind == KIND).order_by(Model.name)))


def named(model: str) -> Model:
    """The version that a name stands for at this moment. Raises JobError."""
    with autocommit() as connection, Session(connection) as session:
        return find(session, model, KIND)


def load(model: str, device: str) -> TextModel:
    """The classifier that a name stands for. Raises JobError for none, ValueError for one that cannot be opened."""
    found = named(model)
    store = ArtifactStore(settings().artifacts(), settings().home)
    try:
        return opened(store, found.artifact_digest, device)
    except ArtifactError as error:
        raise ValueError(str(error)) from None


def opened(store: ArtifactStore, digest: str, device: str) -> TextModel:
    """The classifier of this artifact; one that computes something else on this machine than where it was quantized
    gives way to the one that it was made from. Raises ArtifactError and ValueError."""
    from jobs.text.models import made_from, open_model
    from jobs.text.runtime import WrongMachine

    folder = store.fetch(digest)
    try:
        return open_model(folder, device)
    except WrongMachine as wrong:
        if (origin := made_from(folder)) is None:
            raise
        try:
            model = open_model(store.fetch(origin), device)
        except (ArtifactError, ValueError) as error:
            raise ValueError(f"{wrong}; what it was made from cannot be used instead: {error}") from None
        log.warning("model_replaced_by_its_origin", artifact=digest, origin=origin, reason=str(wrong))
        return model
