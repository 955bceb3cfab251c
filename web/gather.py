"""Submissions that come together go together: while one INSERT is under way the next ones gather for one more."""

import asyncio
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from broker.errors import Unavailable
from broker.submit import submit
from db.ledger import NewJob

MOST = 500  # in one statement


class Gather:
    """One flight at a time; none waits for company."""

    def __init__(self) -> None:
        self._gathered: list[tuple[NewJob, asyncio.Future[UUID]]] = []
        self._flying: asyncio.Task[None] | None = None

    async def submit(self, job: NewJob) -> UUID:
        """Record a job; returns the id that stands for it. Raises what `broker.submit.submit` does."""
        future: asyncio.Future[UUID] = asyncio.get_running_loop().create_future()
        self._gathered.append((job, future))
        if self._flying is None:
            self._flying = asyncio.create_task(self._fly())
        return await future

    async def _fly(self) -> None:
        try:
            while self._gathered:
                flight, self._gathered = self._gathered[:MOST], self._gathered[MOST:]
                await _send(flight)
        finally:
            self._flying = None


async def _send(flight: list[tuple[NewJob, asyncio.Future[UUID]]]) -> None:
    try:
        ids = await run_in_threadpool(submit, [job for job, _ in flight])
    except Exception as error:
        if len(flight) == 1 or isinstance(error, Unavailable):
            for _, future in flight:
                _tell(future, error)
            return
        for each in flight:  # whose fault it is, the others are not to suffer
            await _send([each])
        return
    for (_, future), job_id in zip(flight, ids, strict=True):
        _tell(future, job_id)


def _tell(future: "asyncio.Future[UUID]", outcome: UUID | Exception) -> None:
    if future.done():  # nobody waits for it any more
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
