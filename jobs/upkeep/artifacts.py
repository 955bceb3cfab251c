"""Deleting artifacts and checkpoints that nothing live points to, and what killed writers left."""

from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text

from broker.context import Context
from db.store import ArtifactStore

log = structlog.get_logger()

# Live is: a version in the registry, or one in a version's lineage; a job that is not final made it or was given it;
# a job made it and names it in its result, such as the report of a training, as long as that result is kept; an
# evaluation's pair that is kept has it as its image, or the evaluation as its report.
_UNREFERENCED = """
    FROM artifact a
    WHERE a.created_at < now() - make_interval(secs => :grace_s)
      AND NOT EXISTS (SELECT 1 FROM model m
                      WHERE m.artifact_digest = a.digest OR strpos(m.lineage::text, a.digest) > 0)
      AND NOT EXISTS (SELECT 1 FROM job j WHERE j.state IN ('PENDING', 'STARTED', 'RETRY')
                      AND (j.id = a.job_id OR strpos(j.params::text, a.digest) > 0))
      AND NOT EXISTS (SELECT 1 FROM job j WHERE j.id = a.job_id AND strpos(j.result::text, a.digest) > 0)
      AND NOT EXISTS (SELECT 1 FROM edit_pair p WHERE p.original->>'artifact' = a.digest)
      AND NOT EXISTS (SELECT 1 FROM edit_pair p WHERE p.edited->>'artifact' = a.digest)
      AND NOT EXISTS (SELECT 1 FROM edit_run r WHERE r.report = a.digest)"""
_CANDIDATES = text(f"SELECT a.digest {_UNREFERENCED} ORDER BY a.digest")
_DELETE = text(
    f"DELETE FROM artifact USING (SELECT a.digest {_UNREFERENCED} AND a.digest = :digest FOR UPDATE) gone "
    "WHERE artifact.digest = gone.digest"
)
_KNOWN = text("SELECT digest FROM artifact")
_GIVEN = text("""
    SELECT 1 FROM job WHERE state IN ('PENDING', 'STARTED', 'RETRY') AND strpos(params::text, :digest) > 0 LIMIT 1""")
_LIVE_JOBS = text("SELECT id::text FROM job WHERE state IN ('PENDING', 'STARTED', 'RETRY')")


def clean(ctx: Context, grace_hours: float) -> dict[str, Any]:
    """Rows with their folders, folders that never got a row, checkpoints of final jobs, and what is half-written."""
    store, grace = ctx.store, timedelta(hours=grace_hours)
    with ctx.session() as session:
        candidates = list(session.execute(_CANDIDATES, {"grace_s": grace.total_seconds()}).scalars())
    deleted = 0
    for number, digest in enumerate(candidates):
        ctx.progress(number, len(candidates), stage="artifacts")
        # The folder goes while the row's deletion is still uncommitted: who wants to register the same content
        # waits for the commit, and then finds that the folder is gone and puts it again.
        with ctx.session() as session:
            values = {"digest": digest, "grace_s": grace.total_seconds()}
            if session.execute(_DELETE, values).rowcount:  # type: ignore[attr-defined]
                store.delete(digest)
                deleted += 1
    return {
        "artifacts": deleted,
        "folders": _folders(ctx, store, grace),
        "checkpoints": _checkpoints(ctx, store, grace),
        "unfinished": store.sweep(grace) + _unfinished(store, grace),
    }


def _folders(ctx: Context, store: ArtifactStore, grace: timedelta) -> int:
    on_disk = store.list()  # before the rows are read: what is registered in between is then known
    with ctx.session() as session:
        known = set(session.execute(_KNOWN).scalars())
    stray = [digest for digest in on_disk if digest not in known and _older(store, f"{digest}/manifest.json", grace)]
    deleted = 0
    for digest in stray:
        with ctx.session() as session:
            if session.execute(_GIVEN, {"digest": digest}).first() is None:
                store.delete(digest)
                deleted += 1
    return deleted


def _unfinished(store: ArtifactStore, grace: timedelta) -> int:
    stale = [digest for digest in store.unfinished() if _older(store, digest, grace)]
    for digest in stale:
        store.delete(digest)
    return len(stale)


def _checkpoints(ctx: Context, store: ArtifactStore, grace: timedelta) -> int:
    base = f"{store.root}/.checkpoints"
    if not store.fs.exists(base):
        return 0
    names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in store.fs.ls(base, detail=False)]
    with ctx.session() as session:
        live = set(session.execute(_LIVE_JOBS).scalars())
    dead = [name for name in names if name not in live and _older(store, f".checkpoints/{name}", grace)]
    for name in dead:
        store.fs.rm(f"{base}/{name}", recursive=True)
    return len(dead)


def _older(store: ArtifactStore, path: str, grace: timedelta) -> bool:
    """Whether the newest file there is older than the grace; what cannot be dated is left alone."""
    found = store.fs.find(f"{store.root}/{path}", detail=True).values()
    moments = [_moment(info) for info in found]
    if any(moment is None for moment in moments):
        log.warning("artifact_without_date", path=path)
        return False
    return max((moment for moment in moments if moment), default=datetime.min.replace(tzinfo=UTC)) < (
        datetime.now(UTC) - grace
    )


def _moment(info: dict[str, Any]) -> datetime | None:
    value = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("created")
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return value if isinstance(value, datetime) else None
