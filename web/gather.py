"""Submissions that come together go together: while one INSERT is under way the next ones gather for one more."""

import asyncio
from collections.abc import Callable
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from broker.errors import Unavailable
from broker.submit import submit
from db.ledger import NewJob

MOST = 500  # in one statement

Make = Callable[[], NewJob]
Made = tuple[NewJob, UUID]  # what was drafted, and the id that stands for it
Future = asyncio.Future[Made]


class Gather:
    """One flight at a time; none waits for company."""

    def __init__(self) -> None:
        self._gathered: list[tuple[Make, Future]] = []
        self._flying: asyncio.Task[None] | None = None

    async def submit(self, make: Make) -> Made:
        """Record the job that `make` gives, which is called in another thread. Raises what it and
        `broker.submit.submit` raise."""
        future: Future = asyncio.get_running_loop().create_future()
        self._gathered.append((make, future))
        if self._flying is None:
            self._flying = asyncio.create_task(self._fly())
        return await future

    async def _fly(self) -> None:
        try:
            while self._gathered:
                flight, self._gathered = self._gathered[:MOST], self._gathered[MOST:]
                found = await run_in_threadpool(_submit, [make for make, _ in flight])
                for (_, future), outcome in zip(flight, found, strict=True):
                    _tell(future, outcome)
        finally:
            self._flying = None


def _submit(makes: list[Make]) -> list[Made | Exception]:
    made = [_or_error(make) for make in makes]
    drafts = [each for each in made if isinstance(each, NewJob)]
    standing = iter(_recorded(drafts))
    return [next(standing) if isinstance(each, NewJob) else each for each in made]


def _recorded(drafts: list[NewJob]) -> list[Made | Exception]:
    if not drafts:
        return []
    try:
        return list(zip(drafts, submit(drafts), strict=True))
    except Exception as error:
        if len(drafts) == 1 or isinstance(error, Unavailable):
            return [error] * len(drafts)
    return [found for each in drafts for found in _recorded([each])]  # whose fault it is, the others are not to suffer


def _or_error(make: Make) -> NewJob | Exception:
    try:
        return make()
    except Exception as error:
        return error


def _tell(future: Future, outcome: Made | Exception) -> None:
    if future.done():  # nobody waits for it any more
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
