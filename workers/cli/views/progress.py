"""Waits for a job with a live progress bar: woken when the job ends, looking at its progress twice a second.

A job that is not started within some seconds is told to be behind what runs on its queue.
"""

import sys
from time import monotonic
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from db import listen, read
from db.ahead import Ahead, ahead
from db.engine import autocommit
from db.prefix import PREFIX
from db.state import WAITING
from workers.cli.output import note
from workers.cli.views.jobs import span, told

LOOK_EVERY_S = 0.5
PATIENCE_S = 3.0  # most jobs start sooner


def watch(job_id: UUID, kind: str, *, quiet: bool) -> None:
    """Return when the job is final. `quiet` shows no bar, for scripts; the bar goes to stderr."""
    live = not quiet and sys.stderr.isatty()
    if not live and not quiet:
        note(f"waiting for {kind} {job_id}")
    console = Console(stderr=True, quiet=not live, highlight=False)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("{task.fields[note]}", style="dim", markup=False),
    )  # fmt: skip
    waits_since, known = None, None
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        shown = bar.add_task(kind, total=None, note="")
        for _ in listen.until_final(job_id, look_every_s=LOOK_EVERY_S):
            with autocommit() as connection:
                now = read.pulse(connection, job_id)
                due = ahead(connection, job_id) if now.state in WAITING and not quiet else None
            # Since it is due: the parent of a fan-out is so anew, for a moment, each time that its children are done.
            waits_since = None if due is None else waits_since or monotonic()
            before = due if waits_since and monotonic() - waits_since >= PATIENCE_S else None
            if before and not live and (before.id, before.kind) != known:  # once each, not at every look
                known = (before.id, before.kind)
                note(f"queued on {before.queue} {behind(before)}")
            bar.update(
                shown,
                description=f"{kind} {now.state}",
                completed=int(now.done),
                total=int(now.total) or None,
                note=behind(before) if before else told(now)[:60],
            )


def behind(before: Ahead) -> str:
    """What is ahead of a job, and for how long it has run."""
    if before.id is None:
        return "where nothing runs: is a worker there? `gristmill doctor` tells"
    more = f", and {before.others} more" if before.others else ""
    return f"behind {before.kind} {str(before.id)[:PREFIX]}, running for {span(before.running_s)}{more}"
