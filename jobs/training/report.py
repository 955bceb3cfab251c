"""The report of a training: report.json for programs, report.md and curves.png for people, kept as an artifact."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from broker.context import Context
from broker.errors import summary
from db import registry
from db.store import ArtifactError
from jobs.training.confusion import Confusion
from jobs.training.curves import draw
from jobs.training.publish import put_report
from jobs.training.record import Record
from jobs.training.summary import markdown, speed

log = structlog.get_logger()
KIND = "training report"


def keep(
    ctx: Context,
    record: Record,
    title: str,
    facts: Mapping[str, Any] | None = None,
    confusion: Confusion | None = None,
) -> str | None:
    """Store the report; the digest belongs into the job's result as "report", which keeps it as long as the job's row.

    A training that is done is worth more than its report: when the store or the disk refuses, the job's notes say so
    and there is None. What is wrong in a report itself is an error like any other. `facts`, `confusion`: see `write`.
    """
    try:
        with ctx.store.scratch() as folder:
            write(folder, record, title, facts, confusion)
            stored = put_report(ctx, folder, KIND, title)
    except (ArtifactError, OSError) as error:
        said = summary(error)
        log.warning("report_not_kept", reason=said)
        ctx.note(report=f"not kept: {said}")
        return None
    with ctx.session() as session:
        registry.record(session, stored, KIND, ctx.job_id)
    return stored.digest


def write(
    folder: Path,
    record: Record,
    title: str,
    facts: Mapping[str, Any] | None = None,
    confusion: Confusion | None = None,
) -> None:
    """report.json, report.md and curves.png; of a classifier also confusion.png.

    `facts`, JSON values, go to the head of the report; "metric" among them is the metric that decided, which the
    picture shows first and whose best epoch it marks.
    """
    facts = dict(facts or {})
    data = {"title": title, "facts": facts, "speed": speed(record), **record.json()}
    text = markdown(record, title, facts)
    if confusion is not None:
        data["confusion"] = confusion.json()
        text += "\n" + confusion.markdown()
        confusion.draw(folder / "confusion.png", title)
    (folder / "report.json").write_text(json.dumps(_strict(data), ensure_ascii=False, allow_nan=False))
    (folder / "report.md").write_text(text)
    draw(folder / "curves.png", record, title, facts.get("metric"))


def _strict(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _strict(each) for name, each in value.items()}
    return [_strict(each) for each in value] if isinstance(value, list | tuple) else value
