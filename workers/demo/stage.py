"""What the demo's stories have in common: running a job before the reader's eyes, and tables."""

import time
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from broker.job import Job, find
from workers.cli.views.progress import watch


def run(out: Console, kind: str, **values: Any) -> tuple[Any, float]:
    """Submit a job and watch it; its result and how long that took, queue included."""
    job: Job = find(kind)
    began = time.monotonic()
    handle = job.submit(**values)
    watch(UUID(handle.id), kind, quiet=False)
    result = handle.get(timeout=10)
    took = time.monotonic() - began
    out.print(f"[green]✓[/] {kind} [dim]{handle.id[:8]}[/] {took:.1f} s")
    return result, took


def table(title: str, first: str, *rest: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left")
    made.add_column(first)
    for column in rest:
        made.add_column(column, justify="right")
    return made
