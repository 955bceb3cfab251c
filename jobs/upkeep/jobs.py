"""Deleting final jobs of the kinds that are named, a few thousand in a statement."""

from collections.abc import Mapping
from datetime import datetime

from broker.context import Context
from db import prune
from db.engine import autocommit


def clean(ctx: Context, days: Mapping[str, float]) -> dict[str, int]:
    """How many of each kind there were."""
    deleted = dict.fromkeys(days, 0)
    for number, (kind, kept) in enumerate(days.items()):
        after: datetime | None = prune.BEGINNING
        while after is not None:
            ctx.progress(number, len(days), stage=kind, message=f"{deleted[kind]:,} deleted")
            with autocommit() as connection:
                count, after = prune.forget(connection, kind, kept * 86400, after)
            deleted[kind] += count
    return deleted
