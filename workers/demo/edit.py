"""An image editor evaluated: photographs edited as instructions ask, every edit scored, and a page to look at them."""

from typing import Any

from rich.console import Console
from rich.table import Table

from db.settings import settings
from db.store import ArtifactStore
from workers.demo.stage import run, table

PAIRS = 12  # of each of the five categories: some seconds; `gristmill edit sample` writes 60


def story(out: Console) -> None:
    """Make the benchmark, run it, and say where the report is."""
    from jobs.edit import sample  # it reads photographs: not what a light process should load

    config = sample.write(settings().home / "demo-edit", PAIRS)
    evaluated, _ = run(out, "edit.evaluate", config=str(config.absolute()))
    out.print(scores(evaluated))
    store = ArtifactStore(settings().artifacts(), settings().home)
    out.print(f"every pair with its score: {store.fetch(evaluated['report']) / 'index.html'}", soft_wrap=True)


def scores(evaluated: dict[str, Any]) -> Table:
    """The mean of each category, and what moving models cost."""
    made = table(f"procedural editor, measured scorer, {evaluated['pairs']} pairs", "", "mean score")
    for category, mean in evaluated["categories"].items():
        made.add_row(category, f"{mean:.2f}")
    made.add_row("overall", f"{evaluated['mean']:.2f}", end_section=True)
    made.add_row("failed", str(evaluated["failed"]))
    made.add_row("models loaded, switched", f"{evaluated['loads']}, {evaluated['switches']}")
    return made
