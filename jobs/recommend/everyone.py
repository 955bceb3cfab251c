"""All users: a durable fan-out of batches."""

from __future__ import annotations

import json
import time
from typing import Any

from broker.context import Context
from broker.errors import JobError
from db import recommend as rows
from jobs.recommend.params import PretrainAll
from jobs.recommend.tasks import pretrain_batch

_PLAN = "plan.json"
_COUNTED = ("users", "computed", "incremental", "rebuilt", "popular", "cached", "skipped")


def pretrain_all(ctx: Context, params: PretrainAll) -> dict[str, Any]:
    plan = _plan(ctx, params.chunk)
    shared = {"force": params.force, "top_k": params.top_k, "model_version": params.model_version}
    asked = [{"first": first, "last": last, **shared} for first, last in plan["ranges"]]
    outcomes = ctx.fan_out(pretrain_batch, asked)
    done = [outcome.result for outcome in outcomes if outcome.state == "SUCCESS"]
    if failed := [outcome for outcome in outcomes if outcome.state != "SUCCESS"]:
        raise JobError(f"{len(failed)} of {len(outcomes)} batches failed, the first with: {failed[0].reason}")
    total = {name: sum(each[name] for each in done) for name in _COUNTED}
    busy = sum(each["seconds"] for each in done)
    inference = sum(each["inference_seconds"] for each in done)
    elapsed = time.time() - plan["started"]
    return (
        total
        | {
            "batches": len(outcomes),
            "cache_hit_rate": round(total["cached"] / max(1, total["users"]), 4),
            "seconds": round(elapsed, 3),
            "users_per_s": round(total["users"] / elapsed, 1),  # from the start of this job, waiting in queues included
            "batch_seconds": round(busy, 3),
            "inference_seconds": round(inference, 3),
            "inference_users_per_s": round(total["computed"] / inference, 1) if inference else None,
            "reasons": [reason for each in done for reason in each["reasons"]][:20],
        }
    )


def _plan(ctx: Context, chunk: int) -> dict[str, Any]:
    """Whom to compute, fixed at the first run: users who come later must not change the fan-out's children.

    Ranges and not names: of a million users these are 2,000 lines, here and in the children's parameters. Who comes
    later into a range is computed with it.
    """
    if saved := ctx.load_checkpoint():
        plan: dict[str, Any] = json.loads((saved / _PLAN).read_text())
        return plan
    with ctx.session() as session:
        ranges = rows.ranges(session, chunk)
    if not ranges:
        raise JobError("there are no users: import histories with recommend.import_data")
    ctx.note(fan_out={"of": sum(users for _, _, users in ranges), "unit": "users"})
    plan = {"started": time.time(), "ranges": [(first, last) for first, last, _ in ranges]}
    with ctx.store.scratch() as folder:
        (folder / _PLAN).write_text(json.dumps(plan))
        ctx.save_checkpoint(folder)
    return plan
