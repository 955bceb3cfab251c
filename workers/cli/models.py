"""The registry on the command line: models, models promote, models rollback."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.output import show, table

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy.orm import Session

    from db.read import ModelRow

commands = typer.Typer()
models = typer.Typer()
commands.add_typer(models, name="models", help="The registry of models.")


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only the versions of this model.")] = None,
) -> None:
    """List the versions of every model, newest first: its metrics, what it came from; the one in use is marked."""
    if context.invoked_subcommand is not None:
        return
    from broker.errors import InvalidParams
    from db import read
    from db.engine import session
    from jobs.training.registered import ancestry, scores

    with session() as opened:
        rows = [row for row in read.models(opened) if name in (None, row.name)]
        if name is not None and not rows:
            raise InvalidParams(f"no model {name}: {_known(opened, name)}")
    lines = [
        ["*" if row.is_current else "", row.name, str(row.version), f"{row.created_at.astimezone():%Y-%m-%d %H:%M}",
         ", ".join(scores(row.metrics)), ancestry(row.lineage), row.artifact_digest[:12]]
        for row in rows
    ]  # fmt: skip
    made = table(["", "name", "version", "made", "metrics", "from", "artifact"], lines)
    newest = {row.name: row for row in reversed(rows)}
    passed_over = [
        f"{row.name} {row.version}: {said}"
        for row in newest.values()
        if not row.is_current and (said := row.lineage.get("note"))
    ]
    empty = "no models: train one with `gristmill submit recommend.train` or `gristmill submit classify.train_teacher`"

    def told(out: "Console") -> None:
        out.print(made if rows else empty, soft_wrap=not rows)
        for line in passed_over:
            out.print(line, soft_wrap=True, markup=False)

    show([asdict(row) for row in rows], told)


@models.command()
def promote(name: str, version: int) -> None:
    """Put a version into use, such as an older one after a bad training."""
    from broker.errors import InvalidParams
    from db import switch
    from db.engine import session

    done = switch.promote(name, version)
    with session() as opened:
        if not done:
            raise InvalidParams(f"no model {name} version {version}: {_known(opened, name)}")
        row = _row(opened, name, version)
    show(asdict(row), lambda out: out.print(f"{name} version {version} is in use"))


@models.command()
def rollback(name: str) -> None:
    """Put the version back into use that was so before the present one."""
    from broker.errors import InvalidParams
    from db import switch
    from db.engine import session

    switched = switch.rollback(name)
    with session() as opened:
        if switched.was is None:
            raise InvalidParams(f"no version of {name} is in use: {_known(opened, name)}")
        if switched.now is None:
            raise InvalidParams(f"nothing was in use before {name} version {switched.was}: {_known(opened, name)}")
        row = _row(opened, name, switched.now)
    show(asdict(row), lambda out: out.print(f"{name}: version {row.version} is in use again instead of {switched.was}"))


def _row(opened: "Session", name: str, version: int) -> "ModelRow":
    from db import read

    return next(each for each in read.models(opened) if (each.name, each.version) == (name, version))


def _known(opened: "Session", name: str) -> str:
    from db import read

    found = read.models(opened)
    versions = [str(each.version) for each in found if each.name == name]
    names = sorted({each.name for each in found})
    return f"there are versions {', '.join(versions)}" if versions else f"there is {', '.join(names) or 'no model yet'}"
