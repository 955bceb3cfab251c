"""What comes together goes together: while one statement is under way, those who come next gather for one more."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from uuid import UUID

from anyio import CapacityLimiter, to_thread

from broker import tracing
from broker.errors import Unavailable
from broker.submit import submit
from db.ledger import NewJob

MOST = 500  # in one statement

A = TypeVar("A")
F = TypeVar("F")
Make = Callable[[], NewJob]
Made = tuple[NewJob, UUID]  # what was drafted, and the id that stands for it


class Together(Generic[A, F]):
    """One flight at a time, in a thread of its own: it is not to wait for slow reads. None waits for company."""

    def __init__(self, fly: Callable[[list[A]], Sequence[F | Exception]]) -> None:
        """`fly` is called in that thread, and answers each in order; what it raises is raised to all of them."""
        self._fly_all = fly
        self._gathered: list[tuple[A, asyncio.Future[F]]] = []
        self._flying: asyncio.Task[None] | None = None
        self._thread: CapacityLimiter | None = None

    async def ask(self, asked: A) -> F:
        """The answer to this one."""
        future: asyncio.Future[F] = asyncio.get_running_loop().create_future()
        self._gathered.append((asked, future))
        if self._flying is None:
            self._flying = asyncio.create_task(self._fly())
        return await future

    async def _fly(self) -> None:
        self._thread = self._thread or CapacityLimiter(1)
        try:
            while self._gathered:
                flight, self._gathered = self._gathered[:MOST], self._gathered[MOST:]
                found: Sequence[F | Exception]
                try:
                    found = await to_thread.run_sync(
                        self._fly_all, [asked for asked, _ in flight], limiter=self._thread
                    )
                except Exception as error:
                    found = [error] * len(flight)
                for (_, future), answer in zip(flight, found, strict=True):
                    _tell(future, answer)
        finally:
            self._flying = None


class Gather(Together[Make, Made]):
    """Submissions."""

    def __init__(self) -> None:
        super().__init__(_submit)

    async def submit(self, make: Make) -> Made:
        """Record the job that `make` gives, which is called in another thread. Raises what it and
        `broker.submit.submit` raise."""
        if tracing.on():  # its span is a child of its own request's
            return await to_thread.run_sync(_alone, make)
        return await self.ask(make)


def _alone(make: Make) -> Made:
    made = make()
    return made, submit([made])[0]


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


def _tell(future: asyncio.Future[F], answer: F | Exception) -> None:
    if future.done():  # nobody waits for it any more
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
