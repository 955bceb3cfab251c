"""The job that writes a network's linear layers as products of thin matrices, and lets it recover."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch import nn

from broker.context import Context
from broker.errors import JobError
from jobs.compress import origin
from jobs.compress.reduced import Reduced, reduce
from jobs.compress.tasks import LowRank
from jobs.training import factorised
from jobs.training.publish import earlier, result


def lowrank(ctx: Context, params: LowRank) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return result(done)
    ctx.progress(0, 1, stage="read", message=params.model)
    source = origin.find(ctx, params)

    def thin() -> tuple[nn.Module, dict[str, Any]]:
        model = copy.deepcopy(source.loaded.model)
        random = torch.Generator().manual_seed(params.seed)
        ranks = factorised.factorise(model, ratio=params.ratio, generator=random)
        if not ranks:
            raise JobError(
                f"ratio={params.ratio:g}: no layer of {source.name} is cheaper at that rank (sides below "
                f"{factorised.MIN_SIZE} are left alone): give a smaller ratio, or prune"
            )
        return model, {"layers_thinned": len(ranks), "rank": max(ranks.values())}

    try:
        made = reduce(ctx, params, source, [Reduced(f"rank {params.ratio:.0%}", thin)], "lowrank")
    except ValueError as error:
        raise JobError(str(error)) from None
    return made | {"seconds": round(time.perf_counter() - started, 3)}
