"""What is remembered of evaluations of image editors: runs, and where each of their pairs is.

    waiting   taken in, to be edited              in: take_in, begin      out: put_edits, give_up
    edited    its edited image is in the store    in: put_edits, begin    out: put_scores, give_up
    scored    final
    failed    at intake, edit or score; the next evaluation of the run tries it again, from where it failed

A stage's statement moves a pair only out of the state before it, so that no pair is edited or scored twice.
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from db.base import Base
from db.job import Job
from db.prefix import bounds
from db.state import LIVE
from db.storable import clean

_timestamp = DateTime(timezone=True)

Stage = Literal["edit", "score"]
# What a pair is before each stage.
BEFORE: dict[Stage, str] = {"edit": "waiting", "score": "edited"}


class Busy(Exception):
    """Another job carries the run on; `job_id` says which."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"job {job_id} is evaluating it")
        self.job_id = job_id


class EditRun(Base):
    """One evaluation: what is edited and scored by what. The same again is the same row, carried on."""

    __tablename__ = "edit_run"
    __table_args__ = (Index("edit_run_name", "name", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    key: Mapped[str] = mapped_column(unique=True)  # digest of the benchmark and of all that a score depends on
    name: Mapped[str]
    config: Mapped[dict[str, Any]] = mapped_column(JSONB)
    benchmark: Mapped[dict[str, Any]] = mapped_column(JSONB)  # {path, sha256, pairs: {category: how many}}
    editor: Mapped[dict[str, Any]] = mapped_column(JSONB)  # what the adapter says it is
    scorer: Mapped[dict[str, Any]] = mapped_column(JSONB)  # with its scale: [lowest, highest]
    created_at: Mapped[datetime] = mapped_column(_timestamp, server_default=text("now()"))
    finished_at: Mapped[datetime | None] = mapped_column(_timestamp)
    job_id: Mapped[UUID | None]  # the evaluation that carries it on, or did last
    jobs: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))  # all of them, the first first
    todo: Mapped[list[int] | None] = mapped_column(JSONB(none_as_null=True))  # that one's batches; NULL before intake
    report: Mapped[str | None]  # artifact


class EditPair(Base):
    """One image with its instruction, and what became of it."""

    __tablename__ = "edit_pair"
    __table_args__ = (
        Index("edit_pair_batch", "run_id", "batch"),
        # A clean-up asks of each artifact whether a pair needs it.
        Index("edit_pair_original", text("(original->>'artifact')")),
        Index("edit_pair_edited", text("(edited->>'artifact')")),
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("edit_run.id", ondelete="CASCADE"), primary_key=True)
    category: Mapped[str] = mapped_column(primary_key=True)
    pair_id: Mapped[str] = mapped_column(primary_key=True)
    batch: Mapped[int]  # those of one job
    position: Mapped[int]  # in the benchmark, over all categories of the run
    instruction: Mapped[str]
    description: Mapped[str]
    original: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # {artifact, file, width, height, notes}
    state: Mapped[str]
    failed_at: Mapped[str | None]
    error: Mapped[str | None]
    edited: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # {artifact, file, width, height}
    score: Mapped[float | None]
    parts: Mapped[dict[str, float] | None] = mapped_column(JSONB)
    words: Mapped[str | None]  # the scorer's
    edit_s: Mapped[float | None]  # its share of its batch's time
    score_s: Mapped[float | None]
    edits: Mapped[int] = mapped_column(server_default="0")  # how often it was edited, and scored, successfully
    scores: Mapped[int] = mapped_column(server_default="0")
    alone: Mapped[int] = mapped_column(server_default="0")  # begun by itself since a process died of its batch


_LET_FAILED_RETURN = text("""
    UPDATE edit_pair SET state = CASE WHEN edited IS NULL THEN 'waiting' ELSE 'edited' END,
                         failed_at = NULL, error = NULL, alone = 0
    WHERE run_id = :run AND state = 'failed' AND original IS NOT NULL""")
_FORGET_UNREAD = text("DELETE FROM edit_pair WHERE run_id = :run AND failed_at = 'intake'")

_TAKE_IN = text("""
    INSERT INTO edit_pair (run_id, category, pair_id, batch, position, instruction, description, original, state,
                           failed_at, error)
    SELECT :run, category, pair_id, :batch, position, instruction, description, nullif(original, 'null'),
           CASE WHEN error IS NULL THEN 'waiting' ELSE 'failed' END,
           CASE WHEN error IS NOT NULL THEN 'intake' END, error
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(category varchar, pair_id varchar, position integer,
        instruction varchar, description varchar, original jsonb, error varchar)""")

_PLAN = text("""
    UPDATE edit_run SET todo = (
        SELECT coalesce(jsonb_agg(batch ORDER BY batch), '[]') FROM (
            SELECT DISTINCT batch FROM edit_pair WHERE run_id = :run AND state IN ('waiting', 'edited')) AS open)
    WHERE id = :run RETURNING todo""")

_PUT_EDITS = text("""
    UPDATE edit_pair p SET state = CASE WHEN r.error IS NULL THEN 'edited' ELSE 'failed' END,
        failed_at = CASE WHEN r.error IS NOT NULL THEN 'edit' END, error = r.error,
        edited = nullif(r.edited, 'null'), edit_s = r.seconds, edits = edits + (r.error IS NULL)::int,
        alone = 0
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(category varchar, pair_id varchar, edited jsonb, error varchar,
        seconds float8)
    WHERE p.run_id = :run AND p.category = r.category AND p.pair_id = r.pair_id AND p.state = 'waiting'""")

_PUT_SCORES = text("""
    UPDATE edit_pair p SET state = CASE WHEN r.error IS NULL THEN 'scored' ELSE 'failed' END,
        failed_at = CASE WHEN r.error IS NOT NULL THEN 'score' END, error = r.error,
        score = r.score, parts = nullif(r.parts, 'null'), words = r.words, score_s = r.seconds,
        scores = scores + (r.error IS NULL)::int
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(category varchar, pair_id varchar, score float8, parts jsonb,
        words varchar, error varchar, seconds float8)
    WHERE p.run_id = :run AND p.category = r.category AND p.pair_id = r.pair_id AND p.state = 'edited'""")

_GIVE_UP = text("""
    UPDATE edit_pair SET state = 'failed', failed_at = :stage, error = :error
    WHERE run_id = :run AND batch = :batch AND state = :before""")

_BEGIN_ALONE = text("""
    UPDATE edit_pair SET alone = alone + 1 WHERE run_id = :run AND category = :category AND pair_id = :pair_id
    RETURNING alone""")

_LET_IMAGES_GO = text("UPDATE edit_pair SET edited = NULL WHERE run_id = :run AND state = 'scored'")

_COUNTS = text("""
    SELECT category, count(*) AS pairs, count(*) FILTER (WHERE state = 'waiting') AS waiting,
           count(*) FILTER (WHERE state = 'edited') AS edited, count(*) FILTER (WHERE state = 'scored') AS scored,
           count(*) FILTER (WHERE state = 'failed') AS failed, avg(score) AS mean, stddev_samp(score) AS deviation,
           min(score) AS least, max(score) AS most
    FROM edit_pair WHERE run_id = :run GROUP BY category ORDER BY min(position)""")


def begin(session: Session, key: str, name: str, job_id: UUID, *, retry_failed: bool, **facts: Any) -> EditRun:
    """The run of this key, made now if there is none, for this job to carry on.

    `facts` (config, benchmark, editor, scorer) are how it is carried on from now. When the job takes it over, pairs
    that failed wait again for the stage they failed at. Raises Busy while another job is at it.
    """
    row = {"id": uuid.uuid4(), "key": key, "name": name, **facts}
    session.execute(insert(EditRun).values(row).on_conflict_do_nothing(index_elements=["key"]))
    found = session.scalars(select(EditRun).where(EditRun.key == key).with_for_update()).one()
    if found.job_id == job_id:
        return found
    if found.job_id and session.scalar(select(Job.state).where(Job.id == found.job_id)) in LIVE:
        raise Busy(found.job_id)
    found.job_id, found.jobs, found.todo, found.finished_at = job_id, [*found.jobs, str(job_id)], None, None
    for fact, value in facts.items():
        setattr(found, fact, value)
    if retry_failed:
        session.execute(_FORGET_UNREAD, {"run": found.id})
        session.execute(_LET_FAILED_RETURN, {"run": found.id})
    session.flush()
    return found


def of_job(session: Session, job_id: UUID) -> EditRun | None:
    """The run that this evaluation carries on, once its pairs are taken in."""
    return session.scalars(select(EditRun).where(EditRun.job_id == job_id, EditRun.todo.is_not(None))).one_or_none()


def taken(session: Session, run_id: UUID) -> tuple[set[tuple[str, str]], int]:
    """Which pairs have a row, by category and id; and the number of the next batch."""
    rows = session.execute(select(EditPair.category, EditPair.pair_id).where(EditPair.run_id == run_id))
    known = {(row[0], row[1]) for row in rows}
    last = session.scalar(select(func.max(EditPair.batch)).where(EditPair.run_id == run_id))
    return known, 0 if last is None else last + 1


def take_in(session: Session, run_id: UUID, batch: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """The pairs of one batch: {category, pair_id, position, instruction, description, original, error}."""
    session.execute(_TAKE_IN, {"run": run_id, "batch": batch, "rows": _json(rows)})


def plan(session: Session, run_id: UUID) -> list[int]:
    """Fix which batches this evaluation has to do: those with a pair to edit or to score."""
    planned: list[int] = session.execute(_PLAN, {"run": run_id}).scalar_one()
    return planned


def waiting(session: Session, run_id: UUID, batch: int, stage: Stage) -> list[EditPair]:
    """The pairs of a batch that this stage has yet to do, in the order of the benchmark."""
    of = (EditPair.run_id == run_id, EditPair.batch == batch, EditPair.state == BEFORE[stage])
    return list(session.scalars(select(EditPair).where(*of).order_by(EditPair.position)))


def put_edits(session: Session, run_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """What the editor made of some pairs: {category, pair_id, edited, error, seconds}; an error: it failed."""
    session.execute(_PUT_EDITS, {"run": run_id, "rows": _json(rows)})


def put_scores(session: Session, run_id: UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """What the scorer said of some pairs: {category, pair_id, score, parts, words, error, seconds}."""
    session.execute(_PUT_SCORES, {"run": run_id, "rows": _json(rows)})


def give_up(session: Session, run_id: UUID, batch: int, stage: Stage, error: str) -> None:
    """The job of a batch failed for good: what it has not done is failed."""
    values = {"run": run_id, "batch": batch, "stage": stage, "before": BEFORE[stage], "error": error}
    session.execute(_GIVE_UP, values)


def begin_alone(session: Session, pair: EditPair) -> int:
    """Count that a pair is about to be tried by itself; returns how often by now."""
    values = {"run": pair.run_id, "category": pair.category, "pair_id": pair.pair_id}
    return int(session.execute(_BEGIN_ALONE, values).scalar_one())


def end(session: Session, run_id: UUID, report: str) -> None:
    """All is done that could be, and the report is in the store."""
    session.execute(update(EditRun).where(EditRun.id == run_id).values(report=report, finished_at=func.now()))


def first_failure(session: Session, run_id: UUID) -> str | None:
    """Why the first of the pairs that failed did."""
    failed = select(EditPair.error).where(EditPair.run_id == run_id, EditPair.state == "failed")
    return session.scalar(failed.order_by(EditPair.position).limit(1))


def let_images_go(session: Session, run_id: UUID) -> None:
    """Forget the edited images of what is scored: the next clean-up deletes them."""
    session.execute(_LET_IMAGES_GO, {"run": run_id})


def run(session: Session, id_or_name: UUID | str) -> EditRun | None:
    """The newest of this name, or the one whose id begins so (eight characters at least, and no other begins so)."""
    given = str(id_or_name)
    named = select(EditRun).where(EditRun.name == given).order_by(EditRun.created_at.desc())
    if found := session.scalars(named.limit(1)).one_or_none():
        return found
    if (within := bounds(given)) is None:
        return None
    begun = session.scalars(select(EditRun).where(EditRun.id.between(*within)).limit(2)).all()
    return begun[0] if len(begun) == 1 else None


def pairs(
    session: Session, run_id: UUID, category: str | None = None, order: Literal["position", "score"] = "position"
) -> Iterator[EditPair]:
    """A run's pairs as a stream, in the order of the benchmark or the worst first (what has no score comes last)."""
    asked = select(EditPair).where(EditPair.run_id == run_id)
    if category is not None:
        asked = asked.where(EditPair.category == category)
    if order == "score":
        asked = asked.order_by(EditPair.score.asc().nulls_last())
    yield from session.scalars(asked.order_by(EditPair.position).execution_options(yield_per=200))


def common(session: Session, first: UUID, second: UUID) -> Iterator[tuple[EditPair, EditPair]]:
    """The pairs that two runs share, by category, id and instruction, in the first one's order; as a stream."""
    one, other = aliased(EditPair), aliased(EditPair)
    same = (one.category == other.category, one.pair_id == other.pair_id, one.instruction == other.instruction)
    asked = select(one, other).join(other, and_(*same)).where(one.run_id == first, other.run_id == second)
    for row in session.execute(asked.order_by(one.position).execution_options(yield_per=200)):
        yield row[0], row[1]


def counts(session: Session, run_id: UUID) -> dict[str, dict[str, Any]]:
    """By category: pairs; waiting, edited, scored, failed; mean, deviation, least and most of the scores (None without
    any)."""
    rows = session.execute(_COUNTS, {"run": run_id}).mappings()
    return {row["category"]: {name: value for name, value in row.items() if name != "category"} for row in rows}


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    """As Postgres takes it: a benchmark's texts and a model's words may hold anything."""
    kept = [{name: clean(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows]
    return json.dumps(kept, allow_nan=False)
