"""What people are shown of evaluations of image editors: the runs with their sums, and a run's pairs by the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from db.edit import EditPair
from db.read import Reader
from db.state import LIVE

Shown = Literal["all", "scored", "failed", "open"]
Order = Literal["worst", "best", "benchmark"]
SHOWN: tuple[Shown, ...] = get_args(Shown)
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it stands. `job_state` is None where the job's row is gone."""

    id: UUID
    name: str
    editor: str | None
    scorer: str | None
    scale: Sequence[float] | None  # of its scores: the lowest and the highest
    created_at: datetime
    finished_at: datetime | None
    report: str | None
    job_id: UUID | None
    job_state: str | None
    pairs: int  # taken in by now
    edited: int  # and waiting for their score
    scored: int
    failed: int
    mean: float | None

    @property
    def done(self) -> int:
        """Of which nothing more is to come in this evaluation."""
        return self.scored + self.failed

    @property
    def live(self) -> bool:
        """Whether it is still going."""
        return self.finished_at is None and self.job_state in LIVE


# The sums of those that are listed only, each over an index that begins with the run.
_RUNS = text("""
    SELECT run.id, run.name, coalesce(run.editor->>'name', run.editor->>'class') AS editor,
           coalesce(run.scorer->>'name', run.scorer->>'class') AS scorer, run.scorer->'scale' AS scale,
           run.created_at, run.finished_at, run.report, run.job_id, job.state AS job_state, sums.*
    FROM (SELECT * FROM edit_run WHERE CAST(:id AS uuid) IS NULL OR id = :id
          ORDER BY created_at DESC, id LIMIT :limit OFFSET :offset) AS run
    LEFT JOIN job ON job.id = run.job_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS pairs, count(*) FILTER (WHERE state = 'edited') AS edited,
               count(*) FILTER (WHERE state = 'scored') AS scored, count(*) FILTER (WHERE state = 'failed') AS failed,
               avg(score) FILTER (WHERE state = 'scored') AS mean
        FROM edit_pair WHERE run_id = run.id) AS sums
    ORDER BY run.created_at DESC, run.id""")

_REASONS = text("""
    SELECT failed_at, error, count(*) FROM edit_pair WHERE run_id = :run AND state = 'failed'
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT :most""")


def listed(on: Reader, limit: int = 20, offset: int = 0) -> list[RunRow]:
    """The newest first."""
    return _read(on, None, limit, offset)


def one(on: Reader, run_id: UUID) -> RunRow:
    """The run of this id, which is there."""
    return _read(on, run_id, 1, 0)[0]


def pairs(
    session: Session, run_id: UUID, *, category: str | None = None, shown: Shown = "all", order: Order = "worst",
    limit: int = 24, offset: int = 0,
) -> tuple[list[EditPair], int]:  # fmt: skip
    """Some of a run's pairs, and how many there are of them. What has no score comes last, but for the order of the
    benchmark."""
    asked = select(EditPair).where(EditPair.run_id == run_id, *_among(shown))
    if category is not None:
        asked = asked.where(EditPair.category == category)
    total = session.scalar(select(func.count()).select_from(asked.subquery())) or 0
    if order != "benchmark":
        asked = asked.order_by((EditPair.score.asc() if order == "worst" else EditPair.score.desc()).nulls_last())
    return list(session.scalars(asked.order_by(EditPair.position).limit(limit).offset(offset))), total


def reasons(on: Reader, run_id: UUID, most: int = 10) -> list[tuple[str, str, int]]:
    """Why pairs failed: (stage, error, how many), the most frequent first."""
    return [(row[0], row[1], row[2]) for row in on.execute(_REASONS, {"run": run_id, "most": most})]


def _read(on: Reader, run_id: UUID | None, limit: int, offset: int) -> list[RunRow]:
    return [RunRow(**row) for row in on.execute(_RUNS, {"id": run_id, "limit": limit, "offset": offset}).mappings()]


def _among(shown: Shown) -> list[ColumnElement[bool]]:
    match shown:
        case "all":
            return []
        case "open":
            return [EditPair.state.in_(("waiting", "edited"))]
        case _:
            return [EditPair.state == shown]
