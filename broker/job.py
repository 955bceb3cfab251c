"""Declaring a job: `@job(...)` makes a named Celery task whose submissions are rows of the ledger."""

import difflib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import Any, cast
from uuid import UUID, uuid4

from celery import Task
from celery.result import AsyncResult
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from broker import limits
from broker.app import app
from broker.errors import InvalidParams, UnknownJob
from broker.limits import shown
from broker.params import Params, parse
from broker.queues import NAMING, PRIORITIES, PRIORITY_STEPS, is_queue
from broker.settings import settings
from broker.submit import ambient, submit, unavailable
from db import storable
from db.engine import session as new_session
from db.ledger import NewJob

__all__ = ["Job", "Params", "declared", "find", "job"]

Check = Callable[[Any, Session], None]
Runner = Callable[["Job"], Any]

# Options of Celery's apply_async that mean nothing here (the ledger retries, names queues and stores results).
_IGNORED = {
    "producer", "connection", "publisher", "add_to_parent", "retry", "retry_policy", "serializer", "compression",
    "reply_to", "router", "result_cls", "shadow", "headers", "ignore_result", "soft_time_limit", "stamped_headers",
    "chord_size", "immutable", "replaced_task_nesting",
}  # fmt: skip
_CANVAS = ("chain", "chord", "link", "link_error")

_KEY_CHARACTERS = 200
_MOST_ATTEMPTS = 1000

_places: dict[str, str] = {}  # where each kind is declared

_runner: Runner | None = None


def set_runner(runner: Runner) -> None:
    """Called by the worker's code: what runs a claimed job in this process."""
    global _runner
    _runner = runner


class Job(Task):
    """A declared job. `.submit()` or Celery's own `.delay()`, `.s()`, `group`, `chain`, `chord` record it in the
    ledger; `.body(ctx, params)` is the plain function."""

    abstract = True
    typing = False  # the parameters model checks the arguments
    body: Callable[..., Any]
    params_model: type[BaseModel]
    queue_name: str
    key_template: str | None
    owner_template: str | None
    priority_name: str
    attempts: int
    backoff_s: float
    limit_s: float | None
    check: Check | None
    batch_size: int | None
    batch_by: tuple[str, ...]

    def submit(self, params: BaseModel | None = None, /, **values: Any) -> AsyncResult:
        """Record the job and nudge a worker. Takes the parameters by name, or the parameters object itself.

        Returns the AsyncResult of the job, or of the live job with the same key. Raises InvalidParams, and then
        nothing is recorded.
        """
        return self.apply_async(kwargs=dict(params) if params is not None else values)

    def submit_many(
        self,
        items: Iterable[BaseModel | Mapping[str, Any]],
        *,
        priority: str | int | None = None,
        owner: str | None = None,
    ) -> list[str]:
        """Record many jobs in one statement and nudge the workers in one pipeline; all of them or none.

        Returns the ids in order (of the live job where a key is live). Raises InvalidParams for the first bad item.
        """
        parsed = [parse(self.name, self.params_model, (), dict(item)) for item in items]
        self._run_check(parsed)
        jobs = [self.new(params, priority=priority, owner=owner) for params in parsed]
        return [str(each) for each in submit(jobs)]

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        session: Session | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Celery's entry: records the job. `session` makes it part of that session's transaction.

        Understood: task_id, countdown, eta, expires, queue, priority (a name or a Redis step), time_limit, owner,
        max_attempts, and what `group`, `chain` and `chord` pass.
        Raises InvalidParams for bad parameters, TypeError for other options, Unavailable when Postgres is away.
        """
        options = {**self._get_exec_options(), **options}
        (standing,) = submit([self.draft(kwargs or {}, args or (), task_id, session, **options)], session)
        return self.AsyncResult(str(standing))

    def draft(
        self,
        kwargs: Mapping[str, Any],
        args: Sequence[Any] = (),
        task_id: str | None = None,
        session: Session | None = None,
        **options: Any,
    ) -> NewJob:
        """What `apply_async` would record, checked; nothing is recorded, so that many can go to `submit` together.

        Raises what `apply_async` does.
        """
        params = parse(self.name, self.params_model, args, kwargs)
        self._run_check([params], session)
        return self._from_options(params, task_id, options)

    def new(self, params: BaseModel, *, priority: str | int | None = None, **fields: Any) -> NewJob:
        """The row that a submission of this job records."""
        values = params.model_dump(mode="json")
        attempts = self.attempts if (given := fields.pop("max_attempts", None)) is None else _attempts(given)
        return NewJob(
            id=fields.pop("id", None) or uuid4(),
            kind=self.name,
            queue=fields.pop("queue", None) or self.queue_name,
            priority=_priority(self.priority_name if priority is None else priority),
            params=values,
            key=None if self.key_template is None else _key(self.name, self.key_template.format(**values)),
            owner=_owner(fields.pop("owner", None) or (self.owner_template or "").format(**values)),
            batch=self._batch(values) if attempts > 1 else None,  # the only one is not to be lost by another's fault
            max_attempts=attempts,
            backoff_s=self.backoff_s,
            time_limit_s=fields.pop("time_limit_s", None) or self.limit_s,
            **fields,
        )

    def _batch(self, values: dict[str, Any]) -> str | None:
        """What the jobs have in common that may run in one batch with one of these parameters."""
        if self.batch_size is None or not settings().batching:
            return None
        return _key(self.name, json.dumps([values[name] for name in self.batch_by]))

    def _from_options(self, params: BaseModel, task_id: str | None, options: dict[str, Any]) -> NewJob:
        canvas = {name: value for name in _CANVAS if (value := options.pop(name, None))}
        if canvas:
            limits.check_canvas(f"{self.name}: what follows it", canvas)
        run_at = _moment(options.pop("eta", None), options.pop("countdown", None))
        made = self.new(
            params,
            id=_uuid(task_id),
            queue=_queue(options.pop("queue", None)),
            priority=options.pop("priority", None),
            time_limit_s=_seconds("time_limit", options.pop("time_limit", None)),
            owner=options.pop("owner", None),
            max_attempts=options.pop("max_attempts", None),
            run_at=run_at,
            expires_at=_moment(options.pop("expires", None)),
            group_index=options.pop("group_index", None),
            canvas=canvas or None,
            **{name: _uuid(options.pop(name, None)) for name in ("parent_id", "root_id", "group_id")},
        )
        if unknown := [name for name, value in options.items() if name not in _IGNORED and value is not None]:
            raise TypeError(
                f"{self.name}: unknown option {unknown[0]}={shown(options[unknown[0]])}: it has no effect here"
            )
        # A part of a canvas is waited for under its own id, and what follows hangs on its row: the live job with its
        # key cannot stand for it. The same work may then run twice; else a chain or a chord would never end.
        part = made.canvas or made.group_id or (task_id and made.parent_id)
        return replace(made, key=None) if part else made

    def _run_check(self, params: Sequence[BaseModel], session: Session | None = None) -> None:
        if self.check is None:
            return
        if opened := session or ambient():
            for each in params:
                self.check(each, opened)
            return
        try:
            with new_session() as opened:
                for each in params:
                    self.check(each, opened)
        except OperationalError as error:
            raise unavailable(error) from error


def job(
    kind: str,
    *,
    params: type[BaseModel],
    queue: str,
    key: str | None = None,
    owner: str | None = None,
    priority: str = "normal",
    max_attempts: int = 3,
    backoff: float = 2.0,
    time_limit: float | None = None,
    check: Check | None = None,
    batch: int | None = None,
    batch_by: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Job]:
    """Declare a job; decorates the plain function of (context, parameters) that does the work.

    kind: "<family>.<verb>", the Celery task's name.
    queue: "gpu" or "cpu", or a queue of that class such as "gpu.edit".
    key: a template over the parameters; while a job with this key is live, submitting it again returns that one.
    owner: a template over the parameters: whose job it is. Owners share a queue fairly, however many jobs each submits.
    max_attempts: how often it may start, however an attempt ended. backoff: seconds before the second; doubles.
    time_limit: seconds after which an attempt is killed.
    check: called with (parameters, session) at submission; raises InvalidParams to refuse.
    batch: up to so many jobs that wait at the same time run in one call. The body then takes (context, list of
        parameters), also of a single job, and returns a list with the result of each, in their order; one that is an
        exception fails that job alone. Those whose parameters named in batch_by are equal may run together.
    """
    fields = params.model_fields
    if not 0 < len(kind) <= limits.KIND_CHARACTERS or not kind.isprintable():
        raise ValueError(f"kind={shown(kind)}: use <family>.<verb>, of at most {limits.KIND_CHARACTERS} characters")
    if not is_queue(queue):
        raise ValueError(f"{kind}: queue={queue!r} is of no known class: {NAMING}")
    if priority not in PRIORITIES:
        raise ValueError(f"{kind}: priority={priority!r}: use one of {', '.join(PRIORITIES)}")
    if max_attempts < 1:
        raise ValueError(f"{kind}: max_attempts={max_attempts}: a job starts at least once")
    if backoff < 0:
        raise ValueError(f"{kind}: backoff={backoff:g}: give seconds, 0 or more")
    if time_limit is not None and time_limit <= 0:
        raise ValueError(f"{kind}: time_limit={time_limit:g}: give seconds, or None for no limit")
    if batch is not None and batch < 2:
        raise ValueError(f"{kind}: batch={batch}: give 2 jobs or more, or leave it away")
    if batch is not None and max_attempts < 2:
        raise ValueError(
            f"{kind}: batch={batch} with max_attempts={max_attempts}: a job whose batch fails is tried again alone: "
            "give it 2 attempts or more"
        )
    if batch is None and batch_by:
        raise ValueError(f"{kind}: batch_by={batch_by!r} without batch: say how many jobs run together")
    if isinstance(batch_by, str):
        raise TypeError(f"{kind}: batch_by={batch_by!r} is a text: give a tuple of names, such as ({batch_by!r},)")
    if unknown := [name for name in batch_by if name not in fields]:
        raise ValueError(f"{kind}: batch_by names {unknown[0]!r}, which is no field of {params.__name__}")
    for option, template in (("key", key), ("owner", owner)):
        for _, name, _, _ in Formatter().parse(template or ""):
            if name is not None and name not in fields:
                raise ValueError(
                    f"{kind}: {option}={template!r} names {name!r}, which is no field of {params.__name__}"
                )

    def declare(body: Callable[..., Any]) -> Job:
        # By file, not module: a script's own jobs are imported as __main__ and again by their name.
        place = f"{body.__qualname__} in {body.__code__.co_filename}"
        if _places.setdefault(kind, place) != place:  # Celery would keep the first and say nothing
            raise ValueError(f"{kind} is declared twice, by {_places[kind]} and by {place}: rename one")
        if len(inspect.signature(body).parameters) != 2:
            raise TypeError(f"{kind}: {body.__name__} must take (ctx, params)")

        def run(self: Job) -> Any:
            if _runner is None:
                raise RuntimeError(f"{kind} can only run in a worker: start one with `gristmill worker`")
            return _runner(self)

        run.__name__, run.__module__, run.__doc__ = body.__name__, body.__module__, body.__doc__
        task = app.task(
            run, bind=True, base=Job, name=kind, body=staticmethod(body), params_model=params,
            queue_name=queue, key_template=key, owner_template=owner, priority_name=priority, attempts=max_attempts,
            backoff_s=backoff, limit_s=time_limit, check=staticmethod(check) if check else None,
            batch_size=batch, batch_by=tuple(batch_by),
        )  # fmt: skip
        return cast(Job, task)

    return declare


def declared() -> dict[str, Job]:
    """Every declared job by its kind."""
    app.loader.import_default_modules()
    return {name: task for name, task in sorted(app.tasks.items()) if isinstance(task, Job)}


def find(kind: str) -> Job:
    """The declared job of this kind; raises UnknownJob with the nearest names."""
    known = declared()
    if kind not in known:
        kind = kind[: limits.KIND_CHARACTERS]
        near = difflib.get_close_matches(kind, known, 3)
        listed = f"declared are {', '.join(known)}; name modules of your own in GRISTMILL_JOBS"
        hint = f"did you mean {' or '.join(near)}?" if near else listed
        raise UnknownJob(f"unknown job {kind!r}: {hint}")
    return known[kind]


def _key(kind: str, text: str) -> str:
    """A key fits its index whatever it is made of: a long one (a list of items) is stood for by its digest."""
    if len(text) > _KEY_CHARACTERS:
        text = f"{text[:32]}…{hashlib.sha256(text.encode()).hexdigest()}"
    return f"{kind}:{text}"


def _owner(value: Any) -> str | None:
    if not (owner := str(value)):  # most jobs have none
        return None
    if len(owner) > _KEY_CHARACTERS:
        raise InvalidParams(f"owner={owner[:32]!r}… has {len(owner):,} characters: use at most {_KEY_CHARACTERS}")
    try:
        storable.encode(owner)
    except storable.NotStorable as error:
        raise InvalidParams(f"owner={shown(owner)} is {error}: use another name") from None
    return owner


def _attempts(value: Any) -> int:
    if not isinstance(value, int) or not 1 <= value <= _MOST_ATTEMPTS:
        raise InvalidParams(f"max_attempts={shown(value)}: use a number from 1 to {_MOST_ATTEMPTS}")
    return value


def _priority(value: str | int) -> int:
    if isinstance(value, str):
        if value not in PRIORITIES:
            raise InvalidParams(f"priority={shown(value)}: use one of {', '.join(PRIORITIES)}")
        return PRIORITIES[value]
    return max((step for step in PRIORITY_STEPS if step <= value), default=PRIORITY_STEPS[0])


def _queue(value: Any) -> str | None:
    if value is None:
        return None
    queue = str(getattr(value, "name", value))
    if not is_queue(queue):  # no worker would ever take it
        raise InvalidParams(f"queue={shown(queue)} is of no known class: {NAMING}")
    return queue


def _uuid(value: Any) -> UUID | None:
    try:
        return None if value is None else UUID(str(value))
    except ValueError:
        raise InvalidParams(f"{shown(str(value))} is no job id: use a UUID, or leave the id away") from None


def _seconds(name: str, value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and 0 < value <= limits.TIME_LIMIT_S):
        return value
    raise InvalidParams(f"{name}={shown(value)}: give seconds, more than 0, or leave it away")


def _moment(at: Any, seconds: float | None = None) -> datetime | None:
    """A point in time from a datetime, an ISO string or a number of seconds from now; naive means UTC."""
    at = at if seconds is None else seconds
    if at is None:
        return None
    try:
        if isinstance(at, int | float):
            return datetime.now(UTC) + timedelta(seconds=at)
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, AttributeError):
        remedy = "use a datetime, ISO 8601 or a number of seconds"
        raise InvalidParams(f"{shown(at)} is no point in time: {remedy}") from None
