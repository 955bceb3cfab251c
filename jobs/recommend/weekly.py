"""The weekly loop: new histories, a new model, everyone's list under it while the old one serves, and then the change.

Each stage is a child whose outcome the ledger keeps, so it goes on wherever it was killed. The change is one
transaction with the job's own success: the new version comes into use when all lists under it are there, or not at
all. If it ranks worse, or could not be trained, the lists of the version in use are brought up to date instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.orm import Session

from broker import cache
from broker.context import ChildOutcome, Context
from broker.errors import JobError
from broker.job import Job
from db import interactions, registry
from db import recommend as rows
from db.job import Job as Row
from db.recommend import MODEL
from jobs.recommend import weekly_report
from jobs.recommend.params import DATABASE, Refresh
from jobs.recommend.tasks import import_anilist, import_data, pretrain_all, train

log = structlog.get_logger()


class Overtaken(Exception):
    """Another version came into use in this very moment: look again."""


@dataclass(frozen=True)
class Decision:
    """Which version everyone's lists are for, and why."""

    version: int | None  # the new one; None: the one in use stays
    over: int | None  # what it was compared with, and must still be in use
    said: str


def refresh(ctx: Context, params: Refresh) -> dict[str, Any]:
    imported = _child(ctx, import_data, params.source.model_dump()) if params.source else None
    # asked anew: AniList's answers of last week may not have expired
    users = _child(ctx, import_anilist, params.anilist.model_dump() | {"refresh": True}) if params.anilist else None
    wanted = {"data": DATABASE, "model": params.model, "preset": params.preset} | params.training
    trained = _child(ctx, train, wanted | {"promote": False})
    decision = _decide(ctx, trained)
    everyone = {"model_version": decision.version, "top_k": params.top_k, "chunk": params.chunk}
    computed = _child(ctx, pretrain_all, everyone)
    outcomes = {"import": imported, "anilist": users, "train": trained, "lists": computed}
    if computed.state == "SUCCESS" and decision.version is not None and _behind(ctx, decision.version, params.top_k):
        # whose history changed while the lists were computed; with the states they have now it is a matter of seconds
        outcomes["late lists"] = computed = _child(ctx, pretrain_all, everyone)
    failed = [f"{name}: {each.reason}" for name, each in outcomes.items() if each and each.state != "SUCCESS"]
    if computed.state != "SUCCESS":
        raise JobError(f"the refresh is incomplete, the version in use stays: {'; '.join(failed)}")
    _confirm(ctx, decision)
    if failed:  # the model in use serves on, with lists of today
        with ctx.session() as session:
            _settle(session, decision)
        raise JobError(f"the refresh is incomplete, the lists in use are up to date: {'; '.join(failed)}")
    return _conclude(ctx, params, decision, {name: each.result for name, each in outcomes.items() if each})


def _child(ctx: Context, job: Job, params: dict[str, Any]) -> ChildOutcome:
    (outcome,) = ctx.fan_out(job, [params])
    return outcome


def _decide(ctx: Context, trained: ChildOutcome) -> Decision:
    """The same whenever it is asked, until another version comes into use by hand: then that one stays."""
    if trained.state != "SUCCESS":
        log.warning("refresh_goes_on_with_the_model_in_use", reason=trained.reason)
        return Decision(None, None, f"no new model: {trained.reason}")
    version, note = trained.result["version"], trained.result["note"]
    if note:
        return Decision(None, None, f"version {version} is {note}")
    with ctx.session() as session:
        model = registry.find(session, MODEL, version)
        in_use = registry.current(session, MODEL)
    over = model.lineage.get("compared_with_version") if model else None
    now = in_use.version if in_use else None
    if model is None or now not in (over, version):
        return Decision(None, None, f"version {version} is not taken into use: version {now} came meanwhile")
    said = f"version {version} is in use: it ranks no worse than version {over}" if over else (
        f"version {version} is in use, the first one"
    )  # fmt: skip
    return Decision(version, over, said)


def _behind(ctx: Context, version: int, top_k: int) -> int:
    with ctx.session() as session:
        return rows.behind(session, version, top_k)


def _conclude(ctx: Context, params: Refresh, decision: Decision, results: dict[str, Any]) -> dict[str, Any]:
    """The report first, since writing it takes seconds; then everything else at once."""
    with ctx.session() as session:
        data = weekly_report.collect(session, decision.said, decision.version is not None, results)
    result = {
        "decision": decision.said,
        "promoted": decision.version,
        "report": weekly_report.write(ctx, data),
        "hit_rate": data["hit_rate"],
        "import": results.get("import"),
        "anilist": results.get("anilist"),
        "train": results["train"],
        "pretrain": results["lists"],
        "late": results.get("late lists"),
    }
    with ctx.session() as session:
        interactions.decay_popularity(session, interactions.since_last(session, ctx.kind))
        return ctx.finish(result | {"deleted_lists": _settle(session, decision)})


def _confirm(ctx: Context, decision: Decision) -> None:
    """Where the version in use stays, its lists serve for another week; those that are newer than this job will."""
    if decision.version is None:
        with ctx.session() as session:
            stays, since = registry.current(session, MODEL), session.get_one(Row, ctx.job_id).created_at
        if stays is not None:
            rows.renew(ctx.session, stays.version, since)


def _settle(session: Session, decision: Decision) -> int:
    """Change the version in use, if it changes, and clean up. Returns how many lists of old versions went."""
    if decision.version is not None and not registry.promote_over(session, MODEL, decision.version, decision.over):
        raise Overtaken(f"another version than {decision.over} came into use")
    return cache.clean_superseded(session)
