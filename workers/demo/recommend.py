"""Recommendations: MovieLens-100K in, a model trained, every user's list pre-computed and served from the caches."""

from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from db.engine import session
from db.recommend import CatalogueItem
from jobs.recommend import cache
from workers.demo.stage import run, table

DATA = "ml-100k"
USER = "196"
EPOCHS = 8  # of the default 12: half a minute less for a hundredth of ndcg@10
METRICS = ("hit@5", "hit@10", "ndcg@10", "mrr")


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
