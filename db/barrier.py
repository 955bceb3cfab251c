"""What waits for other jobs: barriers (fan-outs and chords) and the canvas that follows a final job.

Both are acted on exactly once, by whoever's conditional statement changes the row: the worker that ended the last
job at once, or the relay if that worker died in between.
"""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import text

from db.ledger import NEVER, Executor

_OPEN = text("""
    INSERT INTO barrier (group_id, size, parent_id, body)
    VALUES (:group_id, :size, :parent_id, CAST(:body AS jsonb)) ON CONFLICT DO NOTHING""")

# Counted from the rows themselves, so that a child is counted once however often it was restarted.
_RELEASE = text("""
    UPDATE barrier SET released_at = now()
    WHERE group_id = :group_id AND released_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM job WHERE group_id = :group_id AND state IN ('PENDING', 'STARTED', 'RETRY'))
      AND (SELECT count(*) FROM job WHERE group_id = :group_id) >= size
    RETURNING parent_id, body""")

_IS_RELEASED = text("""
    SELECT released_at IS NOT NULL FROM barrier WHERE group_id = :group_id FOR UPDATE""")

_READY = text("""
    SELECT group_id FROM barrier b
    WHERE released_at IS NULL
      AND NOT EXISTS (SELECT 1 FROM job WHERE group_id = b.group_id AND state IN ('PENDING', 'STARTED', 'RETRY'))
      AND (SELECT count(*) FROM job WHERE group_id = b.group_id) >= size""")

_RESUME = text(f"""
    UPDATE job SET run_at = now() WHERE id = :id AND state = 'PENDING' AND run_at = {NEVER}""")

_FOLLOW = text("""
    UPDATE job SET followed_at = now()
    WHERE id = :id AND canvas IS NOT NULL AND followed_at IS NULL AND state IN ('SUCCESS', 'FAILURE', 'REVOKED')
    RETURNING id, kind, state, result, error, canvas, group_id, root_id, priority""")

_UNFOLLOWED = text("""
    SELECT id FROM job
    WHERE canvas IS NOT NULL AND followed_at IS NULL AND state IN ('SUCCESS', 'FAILURE', 'REVOKED') LIMIT :limit""")

_GROUP = text("""
    SELECT id, state, result, error FROM job WHERE group_id = :group_id ORDER BY group_index, created_at""")


def wait_for(
    on: Executor,
    group_id: UUID,
    size: int,
    *,
    parent_id: UUID | None = None,
    body: dict[str, Any] | None = None,
) -> None:
    """Wait for `size` jobs of a group, then resume `parent_id` or submit `body`."""
    encoded = None if body is None else json.dumps(body)
    on.execute(_OPEN, {"group_id": group_id, "size": size, "parent_id": parent_id, "body": encoded})


def release(on: Executor, group_id: UUID) -> tuple[UUID | None, dict[str, Any] | None] | None:
    """Open the barrier if all of its group is final: to exactly one caller. A parent is made due again."""
    row = on.execute(_RELEASE, {"group_id": group_id}).first()
    if row is None:
        return None
    if row[0] is not None:
        on.execute(_RESUME, {"id": row[0]})
    return row[0], row[1]


def is_released(on: Executor, group_id: UUID) -> bool:
    """Whether the barrier is open; locks it, so that it does not open before the caller's transaction ends."""
    return bool(on.execute(_IS_RELEASED, {"group_id": group_id}).scalar())


def ready(on: Executor) -> list[UUID]:
    """Barriers whose group is final and that nobody has opened yet."""
    return list(on.execute(_READY).scalars())


def follow(on: Executor, job_id: UUID) -> dict[str, Any] | None:
    """Take on what the canvas wants after a final job: to exactly one caller."""
    row = on.execute(_FOLLOW, {"id": job_id}).mappings().first()
    return dict(row) if row else None


def unfollowed(on: Executor, limit: int = 500) -> list[UUID]:
    """Final jobs whose canvas nobody has taken on yet."""
    return list(on.execute(_UNFOLLOWED, {"limit": limit}).scalars())


def group(on: Executor, group_id: UUID) -> list[dict[str, Any]]:
    """The jobs of a group in order: id, state, result, error."""
    return [dict(row) for row in on.execute(_GROUP, {"group_id": group_id}).mappings()]
