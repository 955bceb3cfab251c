"""What a running job's body gets: the `broker.context.Context` of a real worker, every write fenced by its attempt."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog
from celery.result import AsyncResult
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from broker.context import ChildOutcome
from broker.errors import Cancelled, HandedOver, JobError, LeaseLost, Suspended
from broker.job import Job
from broker.params import parse
from broker.queues import NAMING, is_queue
from broker.settings import settings as broker_settings
from broker.submit import submit, within
from db import barrier, lease, ledger, storable
from db.engine import autocommit, session
from db.ledger import Claimed
from db.settings import settings as db_settings
from db.state import LIVE
from db.store import ArtifactStore, Checkpoints
from workers import stopping
from workers.models import ModelsOfJob, resident
from workers.outage import outlast
from workers.result import check_result
from workers.settings import settings

log = structlog.get_logger()
T = TypeVar("T")

PROGRESS_INTERVAL_S = 0.5


class RunContext:
    """One attempt of one job."""

    def __init__(self, claimed: Claimed) -> None:
        self._claimed = claimed
        self._reported_at = 0.0
        self._stage = ""
        self._fan_outs = 0
        self._transaction: Session | None = None
        self._finishing = False
        self.finished = False  # the body's own transaction has stored its success
        self.job_id: UUID = claimed.id
        self.kind = claimed.kind
        self.attempt = claimed.attempt
        self.device = settings().device
        self.models = ModelsOfJob(resident, claimed.id)

    @property
    def stopping(self) -> bool:
        """See Context.stopping."""
        return stopping.asked()

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store, opened on first use."""
        return ArtifactStore(db_settings().artifacts(), db_settings().home)

    @cached_property
    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self.store, str(self.job_id))

    def progress(self, done: int, total: int, *, stage: str = "", message: str = "") -> None:
        """See Context.progress. Written when the stage changes, at the end, and at most twice a second in between.

        Dropped within `session()`, whose transaction holds the row that would be written; and while Postgres is away,
        since hours of work are not to be lost for a number: the lease says whether they are still wanted.
        """
        if self._transaction is not None:
            return
        now = time.monotonic()
        changed = stage != self._stage or done >= total
        if not changed and now - self._reported_at < PROGRESS_INTERVAL_S:
            return
        self._reported_at, self._stage = now, stage
        value = {"done": done, "total": total, "stage": storable.clean(stage), "message": storable.clean(message)}
        try:
            with autocommit() as connection:
                answer = ledger.progress(connection, self.job_id, self.attempt, value)
        except OperationalError as error:
            log.warning("progress_not_recorded", reason=str(error).split("\n")[0])
            return
        self._heed(answer)

    def note(self, **facts: Any) -> None:
        """See Context.note."""
        try:
            with nullcontext(self._transaction) if self._transaction else autocommit() as on:
                held = ledger.note(on, self.job_id, self.attempt, facts)
        except OperationalError as error:
            log.warning("note_not_recorded", reason=str(error).split("\n")[0])
            return
        if not held:
            raise self._lost()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """See Context.session: the job's row is locked for the transaction, so the lease cannot change hands in it.

        Within an open one it is that one: a second transaction would wait for the first's lock for ever.
        """
        if self._transaction is not None:
            yield self._transaction
            return
        lease_s = broker_settings().lease_seconds
        self._finishing = False
        block, transaction = outlast(self._hold)
        with block:
            began, self._transaction = time.monotonic(), transaction
            try:
                yield transaction
            finally:
                self._transaction = None
            if time.monotonic() - began > lease_s / 4:  # renewals pass over a row that is held
                lease.prolong(transaction, self.job_id, self.attempt, lease_s)
        self.finished = self._finishing

    def _hold(self) -> tuple[ExitStack, Session]:
        """A transaction that holds the job's row; nothing has been written in it, so that it can be begun again."""
        with ExitStack() as block:
            transaction = block.enter_context(session())
            self._heed(lease.hold(transaction, self.job_id, self.attempt))
            return block.pop_all(), transaction

    def finish(self, result: T) -> T:
        """See Context.finish."""
        if self._transaction is None:
            raise JobError(f"{self.kind} calls finish() outside of ctx.session(): call it at the end of the block")
        check_result(self.kind, result)
        if not ledger.succeed(self._transaction, self.job_id, self.attempt, result):
            raise self._lost()
        self._finishing = True
        return result

    def submit(self, job: Job, params: BaseModel | Mapping[str, Any]) -> AsyncResult:
        """See Context.submit."""
        return job.apply_async(
            kwargs=dict(params), parent_id=str(self.job_id), root_id=str(self._root_id), owner=self._claimed.owner
        )

    def fan_out(
        self, job: Job, params: Sequence[BaseModel | Mapping[str, Any]], *, queue: str | None = None
    ) -> list[ChildOutcome]:
        """See Context.fan_out. The n-th call of a body has its own group, so that a body may fan out in stages."""
        group_id = uuid5(NAMESPACE_OID, f"{self.job_id}:{self._fan_outs}")
        self._fan_outs += 1
        children = self._children(group_id)
        if not children:
            if not params:
                return []
            self._record_children(job, params, group_id, queue)
            raise Suspended
        if any(child["state"] in LIVE for child in children):
            self._wait_again(group_id)
            children = self._children(group_id)
        if len(children) != len(params):
            raise JobError(
                f"{self.kind} fanned out {len(children)} children and now names {len(params)}: "
                "what comes before fan_out must give the same items each time"
            )
        return [ChildOutcome(**child) for child in children]

    def _children(self, group_id: UUID) -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            with autocommit() as connection:
                return barrier.group(connection, group_id)

        return outlast(read)

    def _record_children(
        self, job: Job, params: Sequence[BaseModel | Mapping[str, Any]], group_id: UUID, queue: str | None
    ) -> None:
        """The children, their barrier and the parent's waiting are one transaction."""
        if queue is not None and not is_queue(queue):
            raise JobError(f"{self.kind} fans out to queue={queue!r}, which is of no known class: {NAMING}")
        with self.session() as transaction, within(transaction):
            parsed = [parse(job.name, job.params_model, (), dict(item)) for item in params]
            children = [
                job.new(
                    each, id=uuid5(group_id, str(index)), queue=queue, group_id=group_id, group_index=index,
                    parent_id=self.job_id, root_id=self._root_id, owner=self._claimed.owner,
                )
                for index, each in enumerate(parsed)
            ]  # fmt: skip
            # A child whose key is live elsewhere would be counted there and not here: children carry no key.
            submit([replace(child, key=None) for child in children])
            barrier.wait_for(transaction, group_id, len(children), parent_id=self.job_id)
            if not ledger.suspend(transaction, self.job_id, self.attempt):
                raise LeaseLost(f"{self.job_id}: another attempt holds the job")

    def _wait_again(self, group_id: UUID) -> None:
        """Restarted before its children were final: wait on, unless the barrier opened this very moment."""
        with self.session() as transaction:
            if barrier.is_released(transaction, group_id):
                return
            ledger.suspend(transaction, self.job_id, self.attempt)
        raise Suspended

    def save_checkpoint(self, folder: Path) -> None:
        """See Context.save_checkpoint. An attempt that lost its lease must not replace its successor's."""
        with self.session():
            pass
        self._checkpoints.save(folder)
        if self.stopping:
            raise HandedOver(f"{self.job_id} goes on elsewhere: its worker is being stopped")

    def load_checkpoint(self) -> Path | None:
        """See Context.load_checkpoint."""
        return self._checkpoints.load()

    def clear_checkpoints(self) -> None:
        """The job is done and needs them no more; that the store is away now does not undo what was done."""
        if "_checkpoints" in self.__dict__:
            try:
                self._checkpoints.clear()
            except OSError as error:
                log.warning("checkpoints_left", reason=str(error).split("\n")[0])

    @property
    def _root_id(self) -> UUID:
        return self._claimed.root_id or self.job_id

    def _heed(self, answer: bool | None) -> None:
        if answer is None:
            raise self._lost()
        if answer:
            raise Cancelled(f"{self.job_id} was cancelled")

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"{self.job_id}: attempt {self.attempt} no longer holds the job")
