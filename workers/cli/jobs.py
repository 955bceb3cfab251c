"""The commands about jobs that exist: jobs, queues, show, wait, cancel, retry."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import typer

from broker.queues import QUEUES
from db.state import FINAL, LIVE, STATES
from workers.cli.output import is_json, note, show, table

if TYPE_CHECKING:
    from broker.job import Job
    from db.read import JobDetail

commands = typer.Typer()

Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or its first 8 characters or more.")]


@commands.command()
def jobs(
    state: Annotated[str | None, typer.Option(help=f"Only {', '.join(STATES)}.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as recommend.train.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only this queue.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 20,
) -> None:
    """List jobs, the newest first."""
    from broker.errors import InvalidParams
    from db import read
    from db.engine import session
    from workers.cli.views import jobs as views

    if state is not None and state.upper() not in STATES:
        raise InvalidParams(f"unknown state {state!r}: use one of {', '.join(STATES)}")
    with session() as opened:
        rows = read.list_jobs(opened, state=state and state.upper(), kind=kind, queue=queue, owner=owner, limit=limit)
    if not rows:
        _refuse_unknown(kind, queue)
    show([asdict(row) for row in rows], lambda out: out.print(views.rows(rows, out.width) if rows else "no jobs"))


@commands.command()
def queues() -> None:
    """Show each queue's depth and the age of its oldest due job.

    waiting: due; held: due, but enough others of its owner or batch are ahead; later: due later; suspended: waits for
    children.
    """
    from broker.settings import settings
    from db import vitals
    from db.engine import session
    from workers.cli.views.jobs import span

    with session() as opened:
        depths = vitals.depths(opened, settings().owner_window, queues=QUEUES)
    counts = ("waiting", "held", "later", "suspended", "running")
    lines = [[d.queue, *(str(getattr(d, name)) for name in counts), span(d.oldest_s)] for d in depths]
    headings = ["queue", *counts, "oldest"]
    show([asdict(each) for each in depths], lambda out: out.print(table(headings, lines)))


@commands.command("show")
def show_job(
    job: Id,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Also of what says enough by itself, such as a JobError.")
    ] = False,
) -> None:
    """Show one job: parameters, history, progress, result or error with its traceback, children."""
    from db import read
    from db.engine import session
    from workers.cli.views.jobs import detail

    found, waits = _read(job), None
    if found.run_at is None and found.state == "PENDING":
        with session() as opened:
            waits = read.pulse(opened, found.id)
    shown = asdict(found) | ({"pulse": asdict(waits)} if waits else {})
    show(shown, lambda out: detail(out, found, waits, traceback=traceback))


@commands.command()
def wait(job: Id) -> None:
    """Wait until a job is final: exit code 0 for SUCCESS, 1 for FAILURE or REVOKED. Ctrl+C leaves the job alone."""
    from db import read
    from db.engine import session

    with session() as opened:
        job_id = read.find(opened, job)
    wait_for(job_id)


@commands.command()
def cancel(job: Id) -> None:
    """Cancel a job and its fan-out's children: at once if it waits, at its next progress call if it runs."""
    from broker import canvas
    from broker.errors import GristmillError

    found = _read(job)
    if not canvas.cancel(found.id):
        raise GristmillError(f"job {found.id} is {_read(str(found.id)).state} already: there is nothing to cancel")
    now = _read(str(found.id)).state
    said = f"{found.id} is cancelled" if now == "REVOKED" else f"{found.id} runs and was asked to stop"
    show({"id": found.id, "state": now}, lambda out: out.print(said, soft_wrap=True))


@commands.command()
def retry(
    job: Id, wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print the result.")] = False
) -> None:
    """Submit a final job's kind and parameters again, as a new job. The old one stays as it is."""
    from broker.errors import GristmillError
    from broker.job import find

    found = _read(job)
    if found.state in LIVE:
        raise GristmillError(
            f"job {found.id} is {found.state}, and only final jobs are retried: wait for it, or cancel it first"
        )
    submit(find(found.kind), found.params, queue=found.queue, priority=found.priority, wait=wait)


def submit(
    job: "Job", values: Mapping[str, Any], *, queue: str | None = None, priority: str | int | None = None,
    countdown: float | None = None, wait: bool = False,
) -> None:  # fmt: skip
    """Record a job and print its id, or wait for its end."""
    wanted = str(uuid4())
    run_at = None if countdown is None else _later(countdown)
    result = job.apply_async(kwargs=dict(values), task_id=wanted, eta=run_at, queue=queue, priority=priority)
    known = result.id != wanted
    if known:
        note(f"the same work is live already as {result.id}: nothing was added")
    if wait:
        wait_for(UUID(result.id))
        return
    answer = {"id": result.id, "kind": job.name, "already_live": known}
    show(answer, lambda out: out.print(result.id, soft_wrap=True))


def wait_for(job_id: UUID) -> None:
    """Wait with a progress bar, print the outcome, and exit with 1 unless it is SUCCESS."""
    from workers.cli.views.jobs import outcome

    ended = finish(job_id)
    show(asdict(ended), lambda out: outcome(out, ended))
    if ended.state != "SUCCESS":
        raise typer.Exit(1)


def finish(job_id: UUID) -> "JobDetail":
    """Wait with a progress bar until a job is final. Ctrl+C exits with 130 and leaves the job alone."""
    found = _read(str(job_id))
    if found.state in FINAL:
        return found
    from workers.cli.views.progress import watch

    try:
        watch(job_id, found.kind, quiet=is_json())
    except KeyboardInterrupt:
        note(f"the job goes on: `gristmill wait {job_id}` waits again, `gristmill cancel {job_id}` ends it")
        raise typer.Exit(130) from None
    return _read(str(job_id))


def _read(prefix: str) -> "JobDetail":
    from db import read
    from db.engine import session

    with session() as opened:
        return read.show(opened, prefix)


def _later(seconds: float) -> datetime:
    from broker.errors import InvalidParams

    try:
        if seconds >= 0:
            return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        pass
    raise InvalidParams(f"--in {seconds:g}: not a time that will come: give a number of seconds from now")


def _refuse_unknown(kind: str | None, queue: str | None) -> None:
    """An empty list because of a typo is said to be one; kinds that only old rows know are found before this."""
    from broker.errors import InvalidParams
    from broker.job import find

    if kind is not None:
        find(kind)
    if queue is not None and queue.split(".")[0] not in QUEUES:
        raise InvalidParams(f"unknown queue {queue!r}: queues begin with one of {', '.join(QUEUES)}")
