"""What the demo's stories have in common: running a job before the reader's eyes, and tables."""

import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from broker.job import find
from broker.submit import submit
from workers.cli.views.progress import watch


def run(out: Console, kind: str, **values: Any) -> tuple[Any, float]:
    """Submit a job and watch it; its result and how long that took, queue included."""
    began = time.monotonic()
    job_id = submitted(out, kind, **values)
    watch(job_id, kind, quiet=False)
    result = find(kind).AsyncResult(str(job_id)).get(timeout=10)
    took = time.monotonic() - began
    out.print(f"[green]✓[/] {kind} [dim]{str(job_id)[:8]}[/] {took:.1f} s")
    return result, took


def submitted(out: Console, kind: str, **values: Any) -> UUID:
    """Submit a job; what a demo that was broken off has left live is gone on with, and not done twice."""
    job = find(kind).draft(values)
    (standing,) = submit([job if job.key else replace(job, key=f"{kind}:demo")])
    if standing != job.id:
        out.print(f"{kind} [dim]{str(standing)[:8]}[/] is live already: waiting for it")
    return standing


def table(title: str, first: str, *rest: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left", min_width=len(title))  # or the title would be broken into lines
    made.add_column(first)
    for column in rest:
        made.add_column(column, justify="right")
    return made
