"""The job that says what adapting the network in use to each user would bring; it changes nothing."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import Any

from broker.context import Context
from broker.errors import JobError
from db.recommend import MODEL
from jobs.recommend import evaluate, promotion
from jobs.recommend.adapt import Adapted
from jobs.recommend.evaluate import METRIC
from jobs.recommend.histories import from_sequences, leave_one_out
from jobs.recommend.intake import dataset
from jobs.recommend.params import Adapt
from jobs.training.memory import batcher
from jobs.training.publish import in_use


def adapt(ctx: Context, params: Adapt) -> dict[str, Any]:
    started = time.perf_counter()
    ctx.progress(0, 3, stage="read", message=params.data)
    model = in_use(ctx, MODEL)
    loaded = promotion.load(ctx, model) if model else None
    if model is None or loaded is None:
        raise JobError("no recommender is in use that can be loaded: train one with recommend.train")
    data = dataset(ctx, params).histories
    known = [loaded.known(data.ids(user)) for user in range(len(data))]
    split = leave_one_out(from_sequences([each for each in known if each], loaded.items))
    try:
        adapted = Adapted(loaded.model, params.steps, params.rate, params.pull)
    except ValueError as error:
        raise JobError(str(error)) from None
    if not (split.test >= 0).any():
        raise JobError(f"no user of {params.data} has three items that version {model.version} knows: give other data")
    measure = partial(evaluate.measure, batcher=partial(batcher, ctx))
    result: dict[str, Any] = {"version": model.version, "users": int((split.test >= 0).sum())}
    for step, (name, history, held) in enumerate(
        (("validation", split.train, split.validation), ("test", split.before_test(), split.test)), 1
    ):
        ctx.progress(step, 3, stage=name)
        adapted.users = adapted.kept = 0
        plain, own = measure(loaded.model, history, held), measure(adapted, history, held)
        difference = evaluate.compare(own, plain)
        result[name] = {
            "plain": plain.summary()[METRIC],
            "adapted": own.summary()[METRIC],
            "difference": asdict(difference) | {"verdict": difference.verdict},
            "kept": round(adapted.kept / adapted.users, 4),  # share of the users for whom it was used
        }
    ctx.progress(3, 3, stage="test")
    return result | {"seconds": round(time.perf_counter() - started, 3)}
