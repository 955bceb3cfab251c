"""A trained model's way into the store and the registry, where it comes into use unless something speaks against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker.context import Context
from broker.errors import JobError
from db import registry
from db.artifact import Model
from db.store import ArtifactError, Stored
from jobs.training import manifest


def earlier(ctx: Context) -> Model | None:
    """What an attempt of this job registered before it died: then there is nothing left to do."""
    with ctx.session() as session:
        return registry.of_job(session, ctx.job_id)


def in_use(ctx: Context, name: str) -> Model | None:
    with ctx.session() as session:
        return registry.current(session, name)


def publish(
    ctx: Context,
    folder: Path,
    name: str,
    kind: str,
    metrics: dict[str, Any],
    *,
    lineage: dict[str, Any] | None = None,
    over: Model | None,
    objection: str | None,
    promote: bool = True,
) -> Model:
    """The next version of `name`.

    `lineage`: what it came from, and the digest of its training's "report". `over`: the version in use that it was
    compared with, None if there was none. `objection`: why it must not come into use by itself. Another training that
    ended in the meantime keeps its place too. Either reason is kept as the lineage's "note". `promote`: False leaves it
    to the caller to take it into use later, if nothing speaks against it.
    """
    before = over.version if over else None
    stored = ctx.store.put(folder)
    with ctx.session() as session:
        registry.record(session, stored, kind, ctx.job_id)
        model = registry.add(
            session,
            name,
            stored.digest,
            metrics,
            {"compared_with_version": before, "note": None} | (lineage or {}),
            ctx.job_id,
            promote_over=-1 if objection or not promote else before,
        )
        if promote and not model.is_current:
            objection = objection or "another version came into use while this one was made"
        if objection:
            anyway = f"`gristmill models promote {name} {model.version}` does so all the same"
            model.lineage = model.lineage | {"note": f"not taken into use: {objection}; {anyway}"}
    # A clean-up may have deleted the same content between `put` and the commit that now protects it.
    if not ctx.store.exists(stored.digest):
        ctx.store.put(folder)
    return model


def put_report(ctx: Context, folder: Path, kind: str, title: str) -> Stored:
    """A report's folder into the store, with the manifest that it lacks. Raises what the store raises."""
    # The job's own, so that no two jobs share a report and the one's clean-up never takes the other's.
    facts = {"kind": kind, "title": title, "job": str(ctx.job_id), "attempt": ctx.attempt}
    manifest.write_json(folder / manifest.MANIFEST, facts)
    return ctx.store.put(folder)


def keep_report(ctx: Context, folder: Path, kind: str, title: str) -> str:
    """The same with its row, for a job that is nothing without its report: raises JobError. Returns the digest."""
    try:
        stored = put_report(ctx, folder, kind, title)
    except ArtifactError as error:
        raise JobError(str(error)) from None
    with ctx.session() as session:
        registry.record(session, stored, kind, ctx.job_id)
    return stored.digest


def result(model: Model) -> dict[str, Any]:
    """What a training job says of the version it made."""
    return {
        "version": model.version,
        "is_current": model.is_current,
        "note": model.lineage.get("note"),
        "artifact": model.artifact_digest,
        "report": model.lineage.get("report"),
        "metrics": model.metrics,
    }
