"""The jobs of the editors' evaluation and their parameters; what they do is in the modules that the bodies import."""

from typing import Any
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Session

from broker.context import Context
from broker.job import Params, job
from jobs.training import files
from jobs.training.files import FilePath


class Evaluate(Params):
    """Edit the images of a benchmark and score the edits, as a configuration says; ends with a report."""

    config: FilePath = Field(
        min_length=1, description="YAML or JSON file on the worker's machine: docs/recipes/edit.md."
    )
    retry_failed: bool = Field(default=True, description="Try pairs again that failed in an earlier evaluation.")


class Batch(Params):
    """One stage of some of a run's pairs; edit.evaluate submits these."""

    run: UUID
    batch: int = Field(ge=0)


class Compare(Params):
    """What changed from one run of a benchmark to another, over the pairs that both have scored."""

    a: str = Field(min_length=1, description="The run to measure against: an id, or a name for the newest of it.")
    b: str = Field(min_length=1, description="The run that is measured.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the bootstrap.")


def readable(params: Evaluate, session: Session) -> None:
    """Refuses a configuration that is not there."""
    files.find("config", params.config, "give the absolute path of a run's YAML or JSON")


# Ten attempts: each goes on where the one before it was.
@job(
    "edit.evaluate",
    params=Evaluate,
    queue="cpu",
    key="{config}",
    max_attempts=10,
    time_limit=24 * 3600,
    check=readable,
)
def evaluate(ctx: Context, params: Evaluate) -> dict[str, Any]:
    from jobs.edit.evaluate import evaluate

    return evaluate(ctx, params)


# Ten attempts as well: a pair that kills its process is found by trying those of its batch alone.
@job("edit.edit_batch", params=Batch, queue="gpu.edit", max_attempts=10, time_limit=12 * 3600)
def edit_batch(ctx: Context, params: Batch) -> dict[str, Any]:
    from jobs.edit.stages import edit_batch

    return edit_batch(ctx, params)


@job("edit.score_batch", params=Batch, queue="gpu.score", max_attempts=10, time_limit=12 * 3600)
def score_batch(ctx: Context, params: Batch) -> dict[str, Any]:
    from jobs.edit.stages import score_batch

    return score_batch(ctx, params)


@job("edit.compare", params=Compare, queue="cpu", time_limit=3600)
def compare(ctx: Context, params: Compare) -> dict[str, Any]:
    from jobs.edit.compare import compare

    return compare(ctx, params)
