"""The job that prunes a network, lets it recover, and says what that cost and what it really saved."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from broker.context import Context
from broker.errors import JobError
from jobs.compress import origin, structured, unstructured
from jobs.compress.gate import stratified
from jobs.compress.reduced import Reduced, reduce
from jobs.compress.structured import Cut
from jobs.compress.tasks import Prune
from jobs.text.network import Classifier
from jobs.text.tokens import TextBatch
from jobs.training.publish import earlier, result

# Tried one after the other where nothing is given, until one stays within the tolerance: the deepest first. Of a
# network of 12 layers they leave 56, 63 and 69 % of the multiplications.
CUTS = (Cut(layers=1 / 3, ffn=1 / 4), Cut(layers=1 / 4, ffn=1 / 4), Cut(layers=1 / 6, ffn=1 / 4))
_LOOKED_AT = 256  # texts of train, by which importance is judged


def prune(ctx: Context, params: Prune) -> dict[str, Any]:
    started = time.perf_counter()
    if done := earlier(ctx):
        return result(done)
    ctx.progress(0, 1, stage="read", message=params.model)
    source = origin.find(ctx, params)
    try:
        made = reduce(
            ctx, params, source, _attempts(params, source), "pruned", params.share if params.gradual else None
        )
    except ValueError as error:
        raise JobError(str(error)) from None
    return made | {"seconds": round(time.perf_counter() - started, 3)}


def _attempts(params: Prune, source: origin.Origin) -> list[Reduced]:
    if params.method == "unstructured":
        said = f"{params.share:.0%} of the weights of {params.pattern!r} zero"
        return [Reduced(said, lambda: _zeros(params, source.loaded.model), unstructured.release)]
    wanted = Cut(params.layers, params.heads, params.ffn)
    if not isinstance(source.loaded.model, Classifier):
        raise JobError(f"{source.name} is no transformer: its structure cannot be pruned, its weights can "
                       "(method=unstructured)")  # fmt: skip
    cuts = CUTS if wanted == Cut() else (wanted,)
    return [Reduced(str(cut), _cutter(source, cut)) for cut in cuts]


def _zeros(params: Prune, model: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    made = copy.deepcopy(model)
    unstructured.hold(made, params.pattern)
    if not params.gradual:
        unstructured.set_zeros(made, params.share)
    return made, {}


def _cutter(source: origin.Origin, wanted: Cut) -> Callable[[], tuple[nn.Module, dict[str, Any]]]:
    def cut() -> tuple[nn.Module, dict[str, Any]]:
        made = copy.deepcopy(source.loaded.model)
        left = structured.cut(made, wanted, batches(source))
        return made, left

    return cut


def batches(source: origin.Origin, texts: int = _LOOKED_AT) -> list[TextBatch]:
    """Some texts of train, of like lengths together, on the CPU."""
    tokens = source.loaded.tokens(stratified(source.data.train, texts))
    order = np.argsort(tokens.lengths, kind="stable")
    return [tokens.batch(order[begin : begin + 32]) for begin in range(0, len(order), 32)]
