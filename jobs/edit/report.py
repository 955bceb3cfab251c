"""The report of a run: report.json and pairs.jsonl for programs, report.md and index.html (one file) for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from broker.errors import JobError
from db import edit, read, residency
from db.edit import EditRun
from db.store import ArtifactStore
from jobs.edit import page
from jobs.edit.gallery import Gallery, facts, thumbnails
from jobs.edit.tally import Tally
from jobs.edit.text import markdown
from jobs.training import interval

KIND = "edit report"
_MEASURED = (
    "The scorer measures by rule whether the asked attribute changed as asked and the rest was kept. It is no reward "
    "model, and knows nothing of beauty."
)
_JUDGED = (
    "A model's score is an opinion. The authors of VIEScore (Ku et al. 2024) found that multimodal judges come near "
    "people's ratings of generated images, and struggle with edited ones: look at the pairs before you believe a mean."
)
_CAUSES = {
    "WorkerLost": "a worker was lost",
    "WorkerLostError": "a worker's process was lost",
    "TimeLimitExceeded": "a batch took longer than it may",
    "GivenBack": "a worker was stopped, and gave its batch back,",
}


def write(session: Session, store: ArtifactStore, run_id: UUID, folder: Path) -> dict[str, Any]:
    """Write the report of a run as its rows are now; returns what belongs into a job's result.

    The rows come as a stream and the images one artifact at a time: of 10,000 pairs the numbers are held, and the 300
    that the page shows.
    """
    found = edit.run(session, run_id)
    if found is None:
        raise JobError(f"there is no run {run_id}: `gristmill edit runs` lists those that there are")
    overall, gallery = Tally("overall"), Gallery()
    tallies: dict[str, Tally] = {}
    with (folder / "pairs.jsonl").open("w") as lines:
        for row in edit.pairs(session, found.id):
            lines.write(json.dumps(facts(row), ensure_ascii=False) + "\n")
            overall.add(row)
            tallies.setdefault(row.category, Tally(row.category)).add(row)
            gallery.add(row)
    moved, interrupted = residency.summary(session, found.jobs), read.interruptions(session, found.jobs)
    data = collect(found, overall, tallies, moved, resumed(found, overall, interrupted))
    (folder / "report.json").write_text(json.dumps(data, ensure_ascii=False, allow_nan=False, default=str))
    (folder / "report.md").write_text(markdown(data))
    shown, failed = gallery.worst(), gallery.failures
    scores = {name: tally.scores for name, tally in tallies.items()}
    made = page.render(data, scores, shown, failed, thumbnails(store, [*shown, *failed]))
    (folder / "index.html").write_text(made)
    return short(data)


def collect(
    run: EditRun, overall: Tally, tallies: Mapping[str, Tally], models: Mapping[str, Any], resumed: list[str]
) -> dict[str, Any]:
    """All that report.json has, and the others are made of."""
    config, seed = run.config, run.config.get("seed", 0)
    asked = (config.get("prompts") or {}).get("score")
    names = list(config.get("categories") or tallies)  # one without pairs is said to have none
    categories = {name: tallies.get(name) or Tally(name) for name in dict.fromkeys([*names, *tallies])}
    ended = run.finished_at or datetime.now(UTC)
    scale = run.scorer.get("scale") or _range(tallies.values())
    return {
        "title": f"{run.name}: {overall.pairs:,} edits scored by {run.scorer.get('name', config['scorer']['class'])}",
        "run": {"id": str(run.id), "name": run.name, "created_at": run.created_at, "ended_at": ended},
        "benchmark": run.benchmark,
        "editor": run.editor,
        "judge": {
            **run.scorer,
            "prompts": "the scorer's own" if not asked else f"sha256 {_sha256(asked)}",
            "batch": (config.get("batch") or {}).get("score"),
        },
        "scale": list(scale),
        "seed": seed,
        "overall": overall.json(seed),
        "categories": {name: tally.json(seed) for name, tally in categories.items()},
        "failures": overall.why(),
        "models": dict(models),
        "wall_s": (ended - run.created_at).total_seconds(),
        "resumed": resumed,
        "interval_is": interval.METHOD,
        "doubt": _MEASURED if str(run.scorer.get("class")).startswith("jobs.edit.measured.") else _JUDGED,
        # The adapters' own words on their parameters: a configuration may hold what is not for a page.
        "config": {
            **config,
            **{name: _public(config[name], row) for name, row in (("editor", run.editor), ("scorer", run.scorer))},
        },
    }


def short(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a job's result says of it."""
    overall, models = data["overall"], data["models"]
    return {
        **{name: overall[name] for name in ("pairs", "scored", "failed", "unparsable", "waiting")},
        "mean": overall["mean"],
        "mean_failures_as_0": overall["mean_failures_as_0"],
        "mean_interval_95": overall["mean_interval_95"],
        "categories": {name: each["mean"] for name, each in data["categories"].items()},
        **{name: models.get(name) for name in ("loads", "switches", "bytes_moved", "load_s")},
    }


def resumed(run: EditRun, overall: Tally, interrupted: Mapping[str, int]) -> list[str]:
    """How the run came to its end, in sentences; none where it went through in one go."""
    said = [f"{len(run.jobs)} jobs carried it on, one after the other"] if len(run.jobs) > 1 else []
    for cause, count in interrupted.items():
        said.append(f"{_CAUSES.get(cause, cause)} {'once' if count == 1 else f'{count} times'}")
    if interrupted:
        said.append("what was in hand then was done again, what was finished was not")
    again = (("edited", overall.again["edits"]), ("scored", overall.again["scores"]))
    return said + [f"{count:,} pairs were {what} more than once" for what, count in again if count]


def _public(spec: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "parameters": identity.get("parameters", {})}


def _sha256(prompts: Any) -> str:
    return hashlib.sha256(json.dumps(prompts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _range(tallies: Iterable[Tally]) -> tuple[float, float]:
    """Where the scorer's scale is not known: what the scores show."""
    found = [score for tally in tallies for score in (min(tally.scores, default=0.0), max(tally.scores, default=1.0))]
    return min(found, default=0.0), max(found, default=1.0)
