"""The commands of the recommender: recommend USER, cache stats, cache cleanup."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from workers.cli.output import show, table

if TYPE_CHECKING:
    from celery.result import AsyncResult

commands = typer.Typer()
cache = typer.Typer(no_args_is_help=True)
commands.add_typer(cache, name="cache", help="The cache of recommendations: statistics and clean-up.")


@commands.command()
def recommend(
    user: Annotated[str, typer.Argument(help="A user whose history was imported.")],
    top_k: Annotated[int, typer.Option("--top-k", metavar="N", help="How many items.")] = 10,
    force: Annotated[bool, typer.Option("--force", help="Compute even if a fresh list is cached.")] = False,
) -> None:
    """Recommend items to a user: from the cache when it is fresh, else computed by a worker."""
    from broker.errors import InvalidParams
    from db import read
    from db.engine import session
    from jobs.recommend.cache import UnknownUser
    from jobs.recommend.serve import recommend

    if not 1 <= top_k <= 1000:
        raise InvalidParams(f"top_k={top_k}: give a number from 1 to 1000")
    try:
        found = recommend(user, top_k, force=force, wait=_finish)
    except UnknownUser as error:
        raise InvalidParams(str(error)) from None
    with session() as opened:
        titles = read.titles(opened, [item for item, _ in found.items])
    listed = [{"item": item, "title": titles.get(item, item), "score": score} for item, score in found.items]
    lines = [
        [str(place), titles.get(item, item), item, f"{score:.3f}"] for place, (item, score) in enumerate(found.items, 1)
    ]
    answer = {**asdict(found), "items": listed}
    show(answer, lambda out: out.print(table(["", "title", "item", "score"], lines)))


def _finish(job: "AsyncResult") -> None:
    """Wait for the computation as for any job."""
    from broker.errors import GristmillError
    from workers.cli.jobs import finish

    ended = finish(UUID(job.id))
    if ended.state != "SUCCESS":
        reason = (ended.message or "it was cancelled").splitlines()[0]
        raise GristmillError(f"{ended.kind} ended {ended.state}: {reason} (`gristmill show {str(ended.id)[:8]}`)")


@cache.command()
def stats() -> None:
    """Show hits, misses, hit rate, inferences, their mean time, device and precision."""
    from jobs.recommend import cache as tier

    found = tier.stats()
    lines = [[name.replace("_", " "), "" if value is None else str(value)] for name, value in found.items()]
    show(found, lambda out: out.print(table(["", ""], lines)))


@cache.command()
def cleanup(
    days: Annotated[float, typer.Option(metavar="N", help="Lists older than this are deleted.")] = 30,
) -> None:
    """Delete cached lists that are older than some days."""
    from broker.errors import InvalidParams
    from jobs.recommend import cache as tier

    if not 0 <= days <= 36_500:
        raise InvalidParams(f"days={days:g}: give a number of days from 0 to 36500")
    deleted = tier.cleanup(days)
    show({"deleted": deleted}, lambda out: out.print(f"deleted {deleted} cached lists older than {days:g} days"))
