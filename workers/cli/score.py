"""The command `score MODEL FILE`: how right a classifier is on any file of labelled texts, as one line of JSON."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from db.artifact import Model

commands = typer.Typer()


@commands.command()
def score(
    model: Annotated[str, typer.Argument(help="Of the registry, NAME or NAME@VERSION; or an artifact's folder.")],
    file: Annotated[Path, typer.Argument(help="text<TAB>label a line, by id or by name; or .csv, .tsv, .parquet.")],
    text: Annotated[str, typer.Option(help="Column of the text in a table.")] = "text",
    label: Annotated[str, typer.Option(help="Column of the label in a table.")] = "label",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda, for a model that torch runs.")] = "cpu",
) -> None:
    """Score a classifier on a labelled file, without a worker: accuracy and macro-F1 as one line of JSON."""
    from broker.errors import InvalidParams

    folder, named = _folder(model)
    try:
        from jobs.text.readers import Columns
        from jobs.text.score import score as measured

        found = measured(folder, file, Columns(text, label), device)
    except ModuleNotFoundError as error:
        raise InvalidParams(f"{error.name} is not installed here: pip install 'gristmill[worker]'") from None
    except ValueError as error:
        raise InvalidParams(str(error)) from None
    first = {name: found.pop(name) for name in ("accuracy", "macro_f1", "n")}
    sys.stdout.write(json.dumps(first | named | {"file": str(file)} | found, ensure_ascii=False) + "\n")


def _folder(model: str) -> tuple[Path, dict[str, Any]]:
    """Where the model lies, and its name and version. A folder needs no database."""
    from db.store import ArtifactError

    if (path := Path(model)).is_dir():
        return path, {"model": model, "version": None}
    row = _registered(model)
    from broker.errors import GristmillError
    from db.settings import settings
    from db.store import ArtifactStore

    try:
        folder = ArtifactStore(settings().artifacts(), settings().home).fetch(row.artifact_digest)
    except ArtifactError as error:
        raise GristmillError(f"{row.name}@{row.version} cannot be read: {error}") from None
    return folder, {"model": row.name, "version": row.version}


def _registered(model: str) -> "Model":
    from broker.errors import InvalidParams, JobError
    from db.engine import session
    from jobs.classify.serve import classifier

    try:
        with session() as opened:
            return classifier(opened, model)
    except JobError as error:
        raise InvalidParams(f"{error}; nor is there such a folder") from None
