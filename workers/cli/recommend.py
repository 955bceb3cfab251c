"""The commands of the recommender: recommend, similar, score-items, cache stats, cache cleanup."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from workers.cli.output import note, show, table
from workers.cli.policy import policy_options

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from broker.job import Job

commands = typer.Typer()
cache = typer.Typer(no_args_is_help=True)
commands.add_typer(cache, name="cache", help="The cache of recommendations: statistics and clean-up.")

TopK = Annotated[int, typer.Option("--top-k", metavar="N", help="How many items.")]
Why = Annotated[bool, typer.Option("--why", help="The reasons of each item.")]


@commands.command()
@policy_options()
def recommend(
    policy: dict[str, Any],
    user: Annotated[str, typer.Argument(help="A user whose history was imported; others get what is popular.")],
    top_k: TopK = 10,
    force: Annotated[bool, typer.Option("--force", help="Compute even if a fresh list is cached.")] = False,
    why: Why = False,
) -> None:
    """Recommend items to a user: from the cache when it is fresh, else computed by a worker.

    With a policy it is computed for this once, by a worker, and not cached.
    """
    from broker.errors import InvalidParams
    from workers.cli.views.recommend import listed

    _check(top_k)
    if not user:
        raise InvalidParams("user='': give a name of a user")
    if policy and force:
        raise InvalidParams("--force with a policy: such a list is never cached, leave one of the two")
    answer = _by_policy(user, top_k, policy) if policy else _cached(user, top_k, force, why)
    if answer["basis"] == "popular":
        if not answer["items"]:
            raise InvalidParams(answer["reason"].partition(";")[0])
        note(answer["reason"])
    elif not answer["items"]:
        note("no item passes this policy: ask for less")
    show(answer, lambda out: listed(out, answer["items"], why=why))


@commands.command()
@policy_options(leave_out="calibration")  # which is of a user's history
def similar(
    policy: dict[str, Any],
    item: Annotated[str, typer.Argument(help="Its id, or a part of its title.")],
    top_k: TopK = 10,
) -> None:
    """Show the items that are most like one."""
    from jobs.recommend.tasks import similar as job
    from workers.cli.views.recommend import listed

    _check(top_k)
    found = _run(job, {"item_id": _named(item), "top_k": top_k, **policy})
    lines = [each | {"shares": ", ".join(one["value"] for one in each["shared"])} for each in found["items"]]
    note(f"like {found['title']}:")
    show(found, lambda out: listed(out, lines, why=False, columns=("score", "shares")))


@commands.command()
def score_items(
    user: Annotated[str, typer.Argument(help="A user whose history was imported.")],
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.csv | ID...",
            help="Ids of the catalogue; or a file with the column item, and for new ones title, genres, year, … as in "
            "the catalogue (a|b|c is a list).",
        ),
    ],
    why: Why = False,
) -> None:
    """Score titles for a user, those too that nobody has seen, by what is known of them."""
    from broker.errors import InvalidParams
    from jobs.recommend.tasks import score_items as job
    from jobs.training.files import is_table
    from workers.cli.titles import read_titles
    from workers.cli.views.recommend import listed

    is_file = len(items) == 1 and is_table(items[0])
    titles = read_titles(items[0]) if is_file else [{"item_id": each} for each in items]
    found = _run(job, {"username": user, "items": titles})
    for each in found["errors"]:
        note(each["error"])
    if not found["items"]:
        raise InvalidParams("none of these items can be scored")
    by = {"model": "model", "content": "its features"}
    lines = [each | {"by": by[each["basis"]] + ", seen" * each["seen"]} for each in found["items"]]
    show(found, lambda out: listed(out, lines, why=why, columns=("percentile", "by")))
    if (check := found["check"]) and check["users"]:
        note(
            f"such guesses from features put {check['users']} users' latest items at {check['percentile']:.2f} of the "
            f"catalogue on average; at random it is .50, with the items' own history {check['with_own_vector']:.2f}"
        )


def _check(top_k: int) -> None:
    from broker.errors import InvalidParams

    if not 1 <= top_k <= 1000:
        raise InvalidParams(f"top_k={top_k}: give a number from 1 to 1000")


def _by_policy(user: str, top_k: int, asked: dict[str, Any]) -> dict[str, Any]:
    from broker.errors import InvalidParams
    from jobs.recommend.params import Policy
    from jobs.recommend.policy.filters import UnknownLabel
    from jobs.recommend.serve import rank

    try:
        return rank(user, Policy.model_validate(asked), top_k, wait=_finish)
    except UnknownLabel as error:
        raise InvalidParams(str(error)) from None


def _cached(user: str, top_k: int, force: bool, why: bool) -> dict[str, Any]:
    from db import read
    from db.engine import session
    from jobs.recommend.serve import reasons, recommend
    from jobs.recommend.why import Why

    found = recommend(user, top_k, force=force, wait=_finish)
    ids = [item for item, _ in found.items]
    with session() as opened:
        titles = read.titles(opened, ids)
    listed: list[dict[str, Any]] = [
        {"item": item, "title": titles.get(item, item), "score": score} for item, score in found.items
    ]
    if why:
        found_why = reasons(user, ids)
        for each in listed:
            each["why"] = found_why.get(each["item"], Why([], [])).json()
    return {**asdict(found), "items": listed}


def _named(item: str) -> str:
    """The id that is meant. Where a part of a title fits several items, they are listed, and InvalidParams raised."""
    from broker.errors import InvalidParams
    from db import catalogue
    from db.engine import session

    with session() as opened:
        if catalogue.items(opened, [item]):
            return item
        found = catalogue.by_title(opened, item)
    if not found:
        raise InvalidParams(f"no item {item!r}: it is no id of the catalogue, and no title has it in it")
    if len(found) == 1 or found[0].title.casefold() == item.casefold() != found[1].title.casefold():
        return found[0].item_id
    lines = [[each.item_id, each.title] for each in found]
    candidates = [{"item": each.item_id, "title": each.title} for each in found]
    show({"candidates": candidates}, lambda out: out.print(table(["item", "title"], lines)))
    many = f"{len(found)} titles" if len(found) < catalogue.FOUND else f"{len(found)} titles or more"
    raise InvalidParams(f"{item!r} is in {many}: give the id of one")


def _run(job: "Job", values: dict[str, Any]) -> dict[str, Any]:
    """Submit at once, wait, and return the result."""
    submitted = job.apply_async(kwargs=values, priority="interactive")
    _finish(submitted)
    result: dict[str, Any] = submitted.get()
    return result


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
