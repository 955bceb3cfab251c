"""The command `report JOB`: what a training, a comparison or an evaluation did, as its report tells it."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from db.state import LIVE
from workers.cli.jobs import Id
from workers.cli.output import must_be_new, note, show

if TYPE_CHECKING:
    from db.read import JobDetail

commands = typer.Typer()

_FILES = {"curves": "curves.png", "confusion_picture": "confusion.png", "page": "index.html", "picture": "compare.png",
          "weeks": "weeks.png"}  # fmt: skip
# What writes reports and is no training.
_OTHERS = ("classify.compare", "edit.evaluate", "edit.compare", "recommend.refresh")


@commands.command()
def report(
    job: Id,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Copy its files there.")] = None,
) -> None:
    """Show the report of a job: a training's curves, time and choices; a comparison's table; an evaluation's scores."""
    from db import read
    from db.engine import session

    with session() as opened:
        found = read.show(opened, job)
    folder, text, data = _read(found)
    if out is not None:
        _copy(folder, out)
        folder = out
    files = {name: str((folder / file).absolute()) for name, file in _FILES.items() if (folder / file).is_file()}
    show({**data, "job": found.id, **files}, lambda console: _render(console, text))
    for name, file in files.items():
        note(f"{name}: {file}")


def _read(job: "JobDetail") -> tuple[Path, str, dict[str, Any]]:
    """Folder, text and data of a job's report. Raises GristmillError with the remedy where there is none."""
    from broker.errors import GristmillError, summary
    from db.settings import settings
    from db.store import ArtifactError, ArtifactStore

    digest = job.result.get("report") if job.state == "SUCCESS" and isinstance(job.result, dict) else None
    if not isinstance(digest, str):
        raise GristmillError(_missing(job))
    try:
        folder = ArtifactStore(settings().artifacts(), settings().home).fetch(digest)
        return folder, (folder / "report.md").read_text(), json.loads((folder / "report.json").read_text())
    except (ArtifactError, OSError) as error:
        said = f"the report of job {job.id} cannot be read: {summary(error)}"
        raise GristmillError(f"{said}: `gristmill retry {str(job.id)[:8]}` makes it again") from None


def _missing(job: "JobDetail") -> str:
    """Why a job has no report, and what to do."""
    named, short = f"job {job.id} ({job.kind})", str(job.id)[:8]
    if not _reports(job.kind):
        return f"{named} has no report: only trainings, evaluations and comparisons write one"
    if job.state in LIVE:
        return f"{named} is {job.state}, and its report is written at its end: `gristmill wait {short}`"
    if job.state != "SUCCESS":
        return f"{named} ended {job.state}, and only a job that ends well has a report: `gristmill show {short}`"
    if said := (job.notes or {}).get("report"):
        return f"the report of {named} was {said}"
    return f"{named} has no report: `gristmill retry {short}` runs it again and writes one"


def _reports(kind: str) -> bool:
    """Whether jobs of this kind write reports; one that this installation does not know may have."""
    from broker.errors import UnknownJob
    from broker.job import find
    from jobs.training.options import Acceleration

    try:
        return kind in _OTHERS or issubclass(find(kind).params_model, Acceleration)
    except UnknownJob:
        return True


def _copy(folder: Path, out: Path) -> None:
    from broker.errors import GristmillError

    must_be_new(out, "--out ")
    try:
        shutil.copytree(folder, out, dirs_exist_ok=True)
    except OSError as error:
        raise GristmillError(f"cannot write to {out}: {error.strerror or error}: name another folder") from None


def _render(console: Console, text: str) -> None:
    """Markdown on a terminal; in a pipe as it is."""
    from rich.markdown import Markdown

    if console.is_terminal:
        console.print(Markdown(text))
    else:
        console.print(text.rstrip(), markup=False, soft_wrap=True)
