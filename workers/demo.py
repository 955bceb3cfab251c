"""`bin/demo`: the main job on MovieLens-100K, from nothing to rows in Postgres, and where to look afterwards."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery.exceptions import CeleryError
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from broker.errors import GristmillError
from broker.job import Job, find
from db.engine import session
from db.recommend import CatalogueItem
from db.settings import SettingsError, settings
from jobs.recommend import cache
from workers import up
from workers.cli.views.progress import watch
from workers.process import FLOWER_PORT, address_file

DATA = "ml-100k"
USER = "196"
EPOCHS = 8  # of the default 12: half a minute less for a hundredth of ndcg@10
METRICS = ("hit@5", "hit@10", "ndcg@10", "mrr")


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bin/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running: stop it with `gristmill down`")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = Console(highlight=False)
    try:
        stopped = with_processes(lambda: story(out), keep, lambda line: out.print(line, style="dim", soft_wrap=True))
    except (SettingsError, GristmillError, CeleryError) as error:
        Console(stderr=True).print(f"demo: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    out.print(farewell(stopped), soft_wrap=True)
    return 0


def with_processes(work: Callable[[], None], keep: bool, say: Callable[[str], None]) -> bool:
    """Start the Procfile's processes in the background, work, and stop them unless they are to stay.

    What was running before stays as it is: it is somebody's. Returns whether they were stopped.
    """
    say(f"starting PostgreSQL, Redis and the Procfile's processes under {settings().home} …")
    ours = up.detach(say if keep else lambda _: None)
    try:
        work()
    except BaseException:
        if ours:
            up.down(say)
        raise
    if ours and not keep:
        up.down(say)
        return True
    return False


def story(out: Console) -> None:
    """Import, train, pre-compute everybody twice, and show what came of it."""
    imported, _ = run(out, "recommend.import_data", data=DATA)
    trained, train_s = run(out, "recommend.train", data=DATA, epochs=EPOCHS)
    # The second run in the same home would find the first one's lists fresh: the first pass computes all anew.
    first, first_s = run(out, "recommend.pretrain_all", force=True)
    second, second_s = run(out, "recommend.pretrain_all")
    out.print(ranking(trained))
    out.print(speed({"all users": (first, first_s), "the second run": (second, second_s)}))
    out.print(recommendations(USER))
    out.print(
        f"trained {trained['epochs']} epochs in {train_s:.0f} s on {imported['interactions']:,} interactions of "
        f"{imported['users']} users with {imported['items']:,} films; model version {trained['version']}"
        f" {'is in use' if trained['is_current'] else 'was ' + trained['note']}"
    )


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


def ranking(trained: dict[str, Any]) -> Table:
    """The model beside popularity, on the held-out last item of every user."""
    rows = {"popularity": trained["metrics"]["popularity"], "sasrec": trained["metrics"]["test"]}
    found = table(f"{DATA}, full ranking", "", *METRICS)
    for name, row in rows.items():
        found.add_row(name, *(f"{row[each]:.4f}" for each in METRICS))
    return found


def speed(runs: dict[str, tuple[dict[str, Any], float]]) -> Table:
    """What each pre-computation did, and how fast; users/s is from submission to the last row, queue included."""
    found = table("pre-computation", "", "users", "computed", "cache hits", "users/s", "seconds")
    for name, (result, seconds) in runs.items():
        cells = (
            result["users"],
            result["computed"],
            result["cached"],
            f"{result['users_per_s']:.0f}",
            f"{seconds:.1f}",
        )
        found.add_row(name, *map(str, cells))
    return found


def recommendations(user: str) -> Table:
    """The head of one user's cached list."""
    cached = cache.read(user, 5)
    found = table(f"for user {user}, from the cache ({cached.source if cached else 'miss'})", "film", "score")
    with session() as opened:
        titles = {row.item_id: row.title for row in opened.execute(select(CatalogueItem.item_id, CatalogueItem.title))}
    for item, score in cached.items if cached else ():
        found.add_row(titles.get(item, item), f"{score:.2f}")
    return found


def table(title: str, first: str, *rest: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left")
    made.add_column(first)
    for column in rest:
        made.add_column(column, justify="right")
    return made


def farewell(stopped: bool) -> str:
    """Where to look next."""
    address = address_file(settings().home, "flower")
    flower = address.read_text() if address.exists() else f"http://127.0.0.1:{FLOWER_PORT}"
    lines = [
        f"Flower:  {flower}",
        f"Try:     .venv/bin/gristmill recommend {USER}",
        "         .venv/bin/gristmill jobs --limit 5        .venv/bin/gristmill cache stats",
        "         .venv/bin/gristmill models                .venv/bin/gristmill doctor",
        "Stop:    .venv/bin/gristmill down",
    ]
    if stopped:
        lines.insert(0, f"all is stopped; the rows stay in {settings().home}. `bin/demo --keep` leaves it running:")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
