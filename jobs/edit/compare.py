"""The job that compares two runs of a benchmark: differences with their intervals, and the pairs that changed most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from broker.context import Context
from broker.errors import JobError
from db import edit
from db.edit import EditPair, EditRun
from db.engine import session as read_session
from jobs.edit import compare_page
from jobs.edit.gallery import thumbnails
from jobs.edit.paired import Changed, Paired, judges_differ
from jobs.edit.tasks import Compare
from jobs.training import interval
from jobs.training.publish import keep_report

KIND = "edit comparison"


def compare(ctx: Context, params: Compare) -> dict[str, Any]:
    """See jobs.edit.tasks.Compare."""
    ctx.progress(0, 2, stage="read", message=f"{params.a}, {params.b}")
    with read_session() as session:  # not the job's own: it would hold its row while thousands of pairs stream by
        first, second = _run(session, params.a), _run(session, params.b)
        if first.id == second.id:
            raise JobError(f"{_named(first)} is named twice: name two runs (`gristmill edit runs`)")
        shared = Shared.read(edit.common(session, first.id, second.id))
    data, most = collect(first, second, shared, params.seed), shared.changed.most()
    ctx.progress(1, 2, stage="report", message=data["title"])
    before = thumbnails(ctx.store, [one for one, _ in most])
    after = thumbnails(ctx.store, [two for _, two in most])
    with ctx.store.scratch() as folder:
        (folder / "report.json").write_text(json.dumps(data, ensure_ascii=False, allow_nan=False))
        (folder / "report.md").write_text(compare_page.markdown(data))
        (folder / "index.html").write_text(compare_page.render(data, most, before, after))
        digest = keep_report(ctx, folder, KIND, data["title"])
    return {
        "report": digest,
        "first": data["first"],
        "second": data["second"],
        "judges_differ": data["judges_differ"],
        "overall": data["overall"],
        "categories": data["categories"],
    }


@dataclass
class Shared:
    """What two runs share, added up."""

    overall: Paired = field(default_factory=lambda: Paired("overall"))
    categories: dict[str, Paired] = field(default_factory=dict)
    changed: Changed = field(default_factory=Changed)

    @classmethod
    def read(cls, pairs: Iterable[tuple[EditPair, EditPair]]) -> Shared:
        """From the rows, as they stream by."""
        made = cls()
        for before, after in pairs:
            made.overall.add(before, after)
            made.categories.setdefault(before.category, Paired(before.category)).add(before, after)
            made.changed.add(before, after)
        return made


def collect(first: EditRun, second: EditRun, shared: Shared, seed: int) -> dict[str, Any]:
    """All that report.json has. Raises JobError for runs that share no scored pair."""
    named = f"{_named(first)} and {_named(second)}"
    if not shared.categories:
        raise JobError(f"{named} have no pair in common: compare two runs of one benchmark (`gristmill edit runs`)")
    if not shared.overall.first:
        raise JobError(f"{named} have no pair that is scored in both: `gristmill edit show` says what they wait for")
    return {
        "title": f"{second.name} against {first.name}",
        "first": _facts(first),
        "second": _facts(second),
        "judges_differ": judges_differ(first, second),
        "benchmarks_differ": first.benchmark.get("sha256") != second.benchmark.get("sha256"),
        "overall": shared.overall.json(seed),
        "categories": {name: each.json(seed) for name, each in shared.categories.items()},
        "changed": [
            {
                "category": one.category, "pair_id": one.pair_id, "instruction": one.instruction,
                "first": one.score, "second": two.score,
            }
            for one, two in shared.changed.most()
        ],
        "interval_is": interval.METHOD,
        "seed": seed,
    }  # fmt: skip


def _run(session: Session, named: str) -> EditRun:
    found = edit.run(session, named)
    if found is None:
        raise JobError(f"there is no run {named!r}: `gristmill edit runs` lists those that there are")
    return found


def _facts(run: EditRun) -> Mapping[str, Any]:
    return {
        "run": str(run.id),
        "name": run.name,
        "editor": run.editor.get("name") or run.editor.get("class"),
        "judge": run.scorer.get("name") or run.scorer.get("class"),
        "created_at": run.created_at.isoformat(),
    }


def _named(run: EditRun) -> str:
    return f"{run.name} ({str(run.id)[:8]})"
