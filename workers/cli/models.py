"""The registry on the command line: models, models promote, models rollback."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.output import show, table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.read import ModelRow

commands = typer.Typer()
models = typer.Typer()
commands.add_typer(models, name="models", help="The registry of models.")

_SCORES = ("ndcg@10", "accuracy")  # the number by which a recommender, and a classifier, is known
_OTHERS = ("in_use", "compression")  # of another version; of a candidate on a part of dev


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
    from jobs.training.registered import ancestry

    with session() as opened:
        rows = [row for row in read.models(opened) if name in (None, row.name)]
        if name is not None and not rows:
            raise InvalidParams(f"no model {name}: {_known(opened, name)}")
    lines = [
        ["*" if row.is_current else "", row.name, str(row.version), f"{row.created_at.astimezone():%Y-%m-%d %H:%M}",
         ", ".join(_scores(row.metrics)), ancestry(row.lineage), row.artifact_digest[:12]]
        for row in rows
    ]  # fmt: skip
    made = table(["", "name", "version", "made", "metrics", "from", "artifact"], lines)
    empty = "no models: train one with `gristmill submit recommend.train` or `gristmill submit classify.train_teacher`"
    show([asdict(row) for row in rows], lambda out: out.print(made if rows else empty, soft_wrap=not rows))


@models.command()
def promote(name: str, version: int) -> None:
    """Put a version into use, such as an older one after a bad training."""
    from broker.errors import InvalidParams
    from db import registry
    from db.engine import session

    with session() as opened:
        if not 0 < version < 2**31 or not registry.promote(opened, name, version):
            raise InvalidParams(f"no model {name} version {version}: {_known(opened, name)}")
        _serve_at_once(opened, name, version)
        row = _row(opened, name, version)
    show(asdict(row), lambda out: out.print(f"{name} version {version} is in use"))


@models.command()
def rollback(name: str) -> None:
    """Put the version back into use that was so before the present one."""
    from broker.errors import InvalidParams
    from db import registry
    from db.engine import session

    with session() as opened:
        now = registry.current(opened, name)
        before = registry.rollback(opened, name)
        if now is None:
            raise InvalidParams(f"no version of {name} is in use: {_known(opened, name)}")
        if before is None:
            raise InvalidParams(f"nothing was in use before {name} version {now.version}: {_known(opened, name)}")
        _serve_at_once(opened, name, before.version)
        row = _row(opened, name, before.version)
    show(asdict(row), lambda out: out.print(f"{name} version {row.version} is in use again, no more {now.version}"))


def _serve_at_once(opened: "Session", name: str, version: int) -> None:
    """The lists that a recommender's version left behind are those it would compute, unless the history changed."""
    from db import recommend

    if name == recommend.MODEL:
        recommend.renew(opened, version)


def _row(opened: "Session", name: str, version: int) -> "ModelRow":
    from db import read

    return next(each for each in read.models(opened) if (each.name, each.version) == (name, version))


def _known(opened: "Session", name: str) -> str:
    from db import read

    found = read.models(opened)
    versions = [str(each.version) for each in found if each.name == name]
    names = sorted({each.name for each in found})
    return f"there are versions {', '.join(versions)}" if versions else f"there is {', '.join(names) or 'no model yet'}"


def _scores(metrics: dict[str, Any]) -> list[str]:
    """One number a measurement, such as the test's beside popularity's, or else the numbers that there are."""
    found = list(_named(metrics))
    return found or [f"{name} {value:.4f}" for name, value in metrics.items() if isinstance(value, int | float)]


def _named(metrics: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in metrics.items():
        if not isinstance(value, dict) or name in _OTHERS:
            continue
        yield from (f"{prefix}{name} {score} {value[score]:.4f}" for score in _SCORES if score in value)
        if name == "baseline":
            yield from _named(value, "baseline ")
