"""The job that evaluates an editor: takes a benchmark in, has its pairs edited, then scored, and writes the report."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import structlog

from broker.context import Context
from broker.errors import HandedOver, JobError
from broker.job import Job
from db import edit, registry
from db.edit import EditRun, Stage
from db.engine import session as read_session
from jobs.edit import benchmark, images, kept, tasks
from jobs.edit import config as configuration
from jobs.edit.adapters import resolve
from jobs.edit.benchmark import Item
from jobs.edit.config import Config
from jobs.edit.images import ImageError
from jobs.edit.tasks import Evaluate
from jobs.training.publish import put_report

log = structlog.get_logger()

# What the bytes of a file that can be decoded begin with: in the store it has a name that programs understand.
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


def evaluate(ctx: Context, params: Evaluate) -> dict[str, Any]:
    """All edits, then all scores: so a worker of both queues changes its model once (docs/decisions/0019)."""
    with ctx.session() as session:
        run = edit.of_job(session, ctx.job_id)  # set after intake: the body comes here again after each stage
    run = run or _begun(ctx, params)
    config = Config.model_validate(run.config)
    _stage(ctx, run, tasks.edit_batch, ("edit", "score") if config.stages == "one" else ("edit",), config.queues.edit)
    if config.stages == "two":
        _stage(ctx, run, tasks.score_batch, ("score",), config.queues.score)
    return _ended(ctx, run, config)


def _begun(ctx: Context, params: Evaluate) -> EditRun:
    """The run, with all its pairs taken in and the batches fixed that this job has to do.

    What is wrong with configuration or benchmark raises before anything is recorded.
    """
    ctx.progress(0, 1, stage="read", message=params.config)
    config = configuration.read(params.config)
    editor, scorer = resolve.editor(config.row()["editor"]), resolve.scorer(config.row()["scorer"])
    path = Path(config.benchmark)
    found = benchmark.survey(path, config.categories)
    for prompts in (config.prompts.edit, config.prompts.score):
        if unknown := prompts.keys() - found.known - {configuration.DEFAULT}:
            there = ", ".join(sorted(found.known))
            raise JobError(f"prompts name the category {min(unknown)!r}, which {path} does not have: it has {there}")
    facts = {
        "config": config.row(),
        "benchmark": {"path": str(path), "sha256": found.sha256, "pairs": found.pairs},
        "editor": {**editor.identity(), "name": editor.name},
        "scorer": {**scorer.identity(), "name": scorer.name, "scale": list(scorer.scale)},
    }
    key, again = config.key(found.sha256), params.retry_failed
    try:
        with ctx.session() as session:
            run = edit.begin(session, key, config.name, ctx.job_id, retry_failed=again, **facts)
    except edit.Busy as error:
        raise JobError(
            f"the run {config.name!r} is evaluated by job {error.job_id}: wait for it or cancel it"
        ) from None
    _take_in(ctx, run, config, found.pairs)
    with ctx.session() as session:
        run.todo = edit.plan(session, run.id)
    return run


def _take_in(ctx: Context, run: EditRun, config: Config, pairs: dict[str, int]) -> None:
    """The pairs that have no row yet, a batch at a time: killed halfway, it goes on from there."""
    with ctx.session() as session:
        known, batch = edit.taken(session, run.id)
    done, total, path = len(known), sum(pairs.values()), Path(config.benchmark)
    if done == total:
        return
    fresh = (item for item in benchmark.items(path, pairs) if (item.category, item.id) not in known)
    while done < total:
        ctx.progress(done, total, stage="intake")
        if ctx.stopping:
            raise HandedOver(f"{ctx.job_id} goes on elsewhere: its worker is being stopped")
        with ctx.store.scratch() as folder:
            rows = list(_written(fresh, config.batch.pairs, path.parent, folder))
            if not rows:
                raise JobError(f"{path} was changed while it was read: submit the run again")
            kept.store(ctx, folder, lambda session, digest: _record(session, run, batch, rows, digest))  # noqa: B023
        done, batch = done + len(rows), batch + 1


def _written(items: Iterator[Item], count: int, base: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of the next so many pairs, whose images are written into the folder, one after the other."""
    for number, item in enumerate(islice(items, count)):
        row = {
            "category": item.category,
            "pair_id": item.id,
            "position": item.position,
            "original": None,
            "error": None,
        }
        row |= {"instruction": item.text("instruction"), "description": item.text("description")}
        try:
            content = item.image(base)
            image, notes = images.decode(content)
        except ImageError as error:
            yield row | {"error": str(error)}
            continue
        suffix = next((suffix for begin, suffix in _SUFFIXES.items() if content.startswith(begin)), ".tif")
        file = f"{number:04}{suffix}"
        (folder / file).write_bytes(content)
        yield row | {"original": kept.placed(folder, file, image) | {"notes": notes}}


def _record(session: Any, run: EditRun, batch: int, rows: list[dict[str, Any]], digest: str | None) -> None:
    placed = [row | {"original": row["original"] and row["original"] | {"artifact": digest}} for row in rows]
    edit.take_in(session, run.id, batch, placed)


def _stage(ctx: Context, run: EditRun, job: Job, stages: tuple[Stage, ...], queue: str) -> None:
    """One job for each batch of the run's plan, which ends at once where nothing is left to do.

    What a job that failed for good has not done is failed, and the run goes on.
    """
    batches = run.todo or []
    outcomes = ctx.fan_out(job, [{"run": run.id, "batch": batch} for batch in batches], queue=queue)
    for batch, outcome in zip(batches, outcomes, strict=True):
        if outcome.state == "SUCCESS":
            continue
        said = str((outcome.error or {}).get("message") or f"its job is {outcome.state}")
        log.warning("edit_batch_given_up", run=str(run.id), batch=batch, stages=stages, reason=said)
        with ctx.session() as session:
            for stage in stages:
                edit.give_up(session, run.id, batch, stage, said)


def _ended(ctx: Context, run: EditRun, config: Config) -> dict[str, Any]:
    from jobs.edit import report  # with matplotlib, for whose import the stages are not to wait

    with read_session() as session:
        counted = edit.counts(session, run.id)
        failed = edit.first_failure(session, run.id)
    total, scored = (sum(each[name] for each in counted.values()) for name in ("pairs", "scored"))
    if not scored:
        raise JobError(f"none of the {total:,} pairs of run {run.name!r} ({run.id}) has a score, the first: {failed}")
    ctx.progress(total, total, stage="report")
    with ctx.store.scratch() as folder:
        with read_session() as session:  # not the job's own: it would hold its row for as long as that takes
            said = report.write(session, ctx.store, run.id, folder)
        stored = put_report(ctx, folder, report.KIND, f"{run.name}: {total:,} pairs")
        with ctx.session() as session:
            registry.record(session, stored, report.KIND, ctx.job_id)
            edit.end(session, run.id, stored.digest)
            if not config.save_images:
                edit.let_images_go(session, run.id)
            return ctx.finish({"run": str(run.id), "report": stored.digest, **said})
