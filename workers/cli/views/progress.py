"""Waits for a job with a live progress bar: woken when the job ends, looking at its progress twice a second.

What a job waits for is told: on a terminal as it is, elsewhere when it begins and now and then.
"""

import sys
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from db import listen, read
from db.ahead import ahead
from db.engine import autocommit
from db.state import WAITING
from workers.cli.output import note
from workers.cli.views.jobs import clipped, told
from workers.cli.views.waiting import News, Reasons

LOOK_EVERY_S = 0.5


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
    reasons, news = Reasons(), News()
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        shown = bar.add_task(kind, total=None, note="")
        for _ in listen.until_final(job_id, look_every_s=LOOK_EVERY_S):
            with autocommit() as connection:
                now = read.pulse(connection, job_id)
                due = ahead(connection, job_id) if now.state in WAITING and not quiet else None
            reason = None if quiet else reasons.of(now, due)
            if reason and not live and news.is_due(reason):
                note(reason.line)
            bar.update(
                shown,
                description=f"{kind} {now.state}",
                completed=int(now.done),
                total=int(now.total) or None,
                note=clipped(reason.line if reason else told(now)),
            )
