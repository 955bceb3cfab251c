"""Housekeeping jobs, submitted by beat."""

from typing import Annotated, Any

from pydantic import Field

from broker.context import Context
from broker.job import Params, job


class CleanCache(Params):
    """Delete cached recommendations that nobody renewed, and what remote sources answered when it has expired."""

    days: float = Field(30, ge=0, description="Delete what is older.")


class CleanArtifacts(Params):
    """Delete artifacts and checkpoints that no live row points to."""

    grace_hours: float = Field(24, ge=0, description="Leave what is younger: a job may be about to register it.")


class CleanJobs(Params):
    """Delete final jobs of some kinds, with their results and their history."""

    days: dict[str, Annotated[float, Field(ge=1)]] = Field(
        min_length=1, description='For how long, by kind: {"classify.predict": 7}. Those of other kinds stay for ever.'
    )


class FlushStats(Params):
    """Write the reads counted in Redis to Postgres."""


@job("upkeep.clean_cache", params=CleanCache, queue="cpu", key="all", time_limit=600)
def clean_cache(ctx: Context, params: CleanCache) -> dict[str, Any]:
    from broker.cache import clean
    from db import source_page
    from db.engine import autocommit

    with autocommit() as connection:
        expired = source_page.clean(connection)
    return {"deleted": clean(params.days), "expired_pages": expired}


@job("upkeep.clean_artifacts", params=CleanArtifacts, queue="cpu", key="all", time_limit=3600)
def clean_artifacts(ctx: Context, params: CleanArtifacts) -> dict[str, Any]:
    from jobs.upkeep.artifacts import clean

    return clean(ctx, params.grace_hours)


@job("upkeep.clean_jobs", params=CleanJobs, queue="cpu", key="all", time_limit=3600)
def clean_jobs(ctx: Context, params: CleanJobs) -> dict[str, Any]:
    from jobs.upkeep.jobs import clean

    return clean(ctx, params.days)


@job("upkeep.flush_stats", params=FlushStats, queue="cpu", key="all", time_limit=300)
def flush_stats(ctx: Context, params: FlushStats) -> dict[str, Any]:
    from broker.cache import flush_reads

    return {"reads": flush_reads()}
