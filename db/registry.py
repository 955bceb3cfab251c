"""The registry of models: recording artifacts, adding versions, and which version of a name is in use."""

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.artifact import Artifact, Model
from db.store import Stored


def current(session: Session, name: str) -> Model | None:
    """The version of this name in use."""
    return session.scalars(select(Model).where(Model.name == name, Model.is_current)).one_or_none()


def find(session: Session, name: str, version: int) -> Model | None:
    """This version, in use or not."""
    return session.scalars(select(Model).where(Model.name == name, Model.version == version)).one_or_none()


def of_job(session: Session, job_id: uuid.UUID) -> Model | None:
    """The version that an earlier attempt of this job registered."""
    return session.scalars(select(Model).where(Model.job_id == job_id)).one_or_none()


def record(session: Session, stored: Stored, kind: str, job_id: uuid.UUID | None) -> None:
    """The row of an artifact in the store; the same content has one row."""
    values = {
        "digest": stored.digest,
        "kind": kind,
        "size_bytes": stored.size_bytes,
        "manifest": stored.manifest,
        "job_id": job_id,
    }
    session.execute(insert(Artifact).values(values).on_conflict_do_nothing())


def add(
    session: Session,
    name: str,
    digest: str,
    metrics: dict[str, Any],
    lineage: dict[str, Any],
    job_id: uuid.UUID | None,
    *,
    promote_over: int | None,
) -> Model:
    """The next version of a name; it comes into use only if the version in use is still `promote_over`.

    None stands for no version in use; -1 never promotes.
    """
    # Two trainings that end at once take their numbers one after the other.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('model:' || :name))"), {"name": name})
    latest = session.scalar(select(Model.version).where(Model.name == name).order_by(Model.version.desc()).limit(1))
    in_use = current(session, name)
    promote = promote_over == (in_use.version if in_use else None)
    if promote:
        session.execute(update(Model).where(Model.name == name, Model.is_current).values(is_current=False))
        lineage = _in_use(lineage)
    model = Model(
        name=name,
        version=(latest or 0) + 1,
        artifact_digest=digest,
        metrics=metrics,
        lineage=lineage,
        is_current=promote,
        job_id=job_id,
    )
    session.add(model)
    session.flush()
    return model


def promote(session: Session, name: str, version: int) -> bool:
    """Put a version into use; False when there is no such version, and then nothing changes."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('model:' || :name))"), {"name": name})
    model = find(session, name, version)
    if model is None:
        return False
    session.execute(update(Model).where(Model.name == name, Model.is_current).values(is_current=False))
    values = {"is_current": True, "lineage": _in_use(model.lineage)}
    session.execute(update(Model).where(Model.id == model.id).values(values))
    return True


def promote_over(session: Session, name: str, version: int, over: int | None) -> bool:
    """Put a version into use if `over`, or it, is so now (None: if none is); else nothing changes, and False."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('model:' || :name))"), {"name": name})
    in_use = current(session, name)
    now = in_use.version if in_use else None
    return now == version or (now == over and promote(session, name, version))


def rollback(session: Session, name: str) -> Model | None:
    """Put the version into use that was so before; None when there is none, and then nothing changes."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('model:' || :name))"), {"name": name})
    before = previous(session, name)
    if before is not None:
        promote(session, name, before.version)
        session.refresh(before)
    return before


def previous(session: Session, name: str) -> Model | None:
    """The version to which a rollback would go: the one over which the version in use came, or else the newest older
    one that nothing spoke against."""
    in_use = current(session, name)
    if in_use is None:
        return None
    older = session.scalars(
        select(Model).where(Model.name == name, Model.version < in_use.version).order_by(Model.version.desc())
    ).all()
    over = in_use.lineage.get("compared_with_version")
    return next((each for each in older if each.version == over), None) or next(
        (each for each in older if not each.lineage.get("note")), None
    )


def _in_use(lineage: dict[str, Any]) -> dict[str, Any]:
    """With when it first came into use: no other row remembers that once another version is."""
    return {"in_use_since": datetime.now(UTC).isoformat(timespec="seconds")} | lineage
