"""The commands of image editors' evaluations: edit sample, edit runs, edit show, edit compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import typer

from db.prefix import PREFIX
from workers.cli.output import must_be_new, note, show, table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.edit import EditRun
    from db.gallery import RunRow

commands = typer.Typer()
edit = typer.Typer(no_args_is_help=True)
commands.add_typer(edit, name="edit", help="Evaluations of image editors: a sample, the runs, comparing two.")

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id or its first 8 characters or more, or its name.")]
_STATES = ("waiting", "edited", "scored", "failed")


@edit.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where to write it: new or empty.")],
    pairs: Annotated[int, typer.Option(min=1, max=2000, help="Pairs of each of the five categories.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Which crops and instructions.")] = 0,
) -> None:
    """Write a benchmark made from scikit-image's photographs, and a configuration that runs it without any model."""
    from broker.errors import GristmillError

    must_be_new(folder)
    try:
        from jobs.edit import sample as benchmark
    except ModuleNotFoundError as error:
        raise GristmillError(f"{error.name} is not installed here: pip install 'gristmill[worker]'") from None
    try:
        config = benchmark.write(folder, pairs_per_category=pairs, seed=seed).absolute()
    except OSError as error:
        raise GristmillError(f"cannot write to {folder}: {error.strerror or error}: name another folder") from None
    note(f"run it: gristmill submit edit.evaluate --config {config} --wait")
    show({"config": str(config)}, lambda out: out.print(str(config), markup=False, soft_wrap=True))


@edit.command()
def runs(limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20) -> None:
    """List the runs, the newest first."""
    from db import gallery
    from db.engine import session

    with session() as opened:
        found = [_facts(row) for row in gallery.listed(opened, limit)]
    lines = [
        [
            each["id"][:PREFIX], each["name"], each["job_state"] or "", f"{each['pairs']:,}", f"{each['scored']:,}",
            f"{each['failed']:,}", _number(each["mean"]), each["editor"] or "", each["scorer"] or "",
        ]
        for each in found
    ]  # fmt: skip
    columns = ["run", "name", "job", "pairs", "scored", "failed", "mean", "editor", "scorer"]
    show(found, lambda out: out.print(table(columns, lines, one_line=True) if lines else "no runs"))


@edit.command("show")
def show_run(run: Run) -> None:
    """Show how far a run is: how many pairs of each category are in which state, and what they have scored."""
    from rich.console import Console

    from db import edit as rows
    from db import gallery
    from db.engine import session

    with session() as opened:
        found = _find(opened, run)
        facts = _facts(gallery.one(opened, found.id))
        categories = rows.counts(opened, found.id)
    job_id, report = str(found.job_id or "")[:PREFIX], found.report

    def render(out: Console) -> None:
        said = {
            "run": facts["id"], "name": facts["name"], "editor": facts["editor"], "scorer": facts["scorer"],
            "benchmark": str(found.benchmark.get("path")), "job": f"{job_id} {facts['job_state'] or ''}",
            "progress": f"{facts['done']:,} of {facts['pairs']:,} pairs, {facts['failed']:,} failed",
            "report": f"gristmill report {job_id}" if report else "",
        }  # fmt: skip
        out.print(table(["", ""], [[name, value or ""] for name, value in said.items() if value]))
        out.print()
        lines = [
            [name, *(f"{each[state]:,}" for state in _STATES), _number(each["mean"])]
            for name, each in categories.items()
        ]
        out.print(table(["category", *_STATES, "mean"], lines))

    show({**facts, "report": report, "categories": categories}, render)


@edit.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The run to measure against: an id or a name.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run that is measured.")],
) -> None:
    """Compare two runs of one benchmark: a worker writes the report, which is then shown."""
    from broker.errors import GristmillError, InvalidParams
    from db.engine import session
    from jobs.edit.tasks import compare as job
    from workers.cli.jobs import finish
    from workers.cli.report import report

    with session() as opened:
        first, second = _find(opened, a).id, _find(opened, b).id
    if first == second:
        raise InvalidParams(f"{a} and {b} are the same run: name two")
    job_id = UUID(job.apply_async(kwargs={"a": str(first), "b": str(second)}, task_id=str(uuid4())).id)
    ended = finish(job_id)
    if ended.state != "SUCCESS":
        reason = (ended.message or "it was cancelled").splitlines()[0]
        raise GristmillError(f"{ended.kind} ended {ended.state}: {reason}")
    report(str(job_id))


def _find(opened: "Session", named: str) -> "EditRun":
    """By name, or by the beginning of the id. Raises NotFound."""
    from db import edit as rows
    from db.read import NotFound

    found = rows.run(opened, named)
    if found is None:
        raise NotFound(f"there is no run {named!r}: `gristmill edit runs` lists those that there are")
    return found


def _facts(row: "RunRow") -> dict[str, Any]:
    names = ("editor", "scorer", "created_at", "finished_at", "job_state", "pairs", "done", "scored", "failed", "mean")
    told = {name: getattr(row, name) for name in names}
    return {"id": str(row.id), "name": row.name, "job": None if row.job_id is None else str(row.job_id), **told}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
