"""Pre-computation of all users of MovieLens-100K: batches against the loop of one forward a user.

The loop is what the replaced system did: for each user one forward over the whole window with the scores of every
position, a Python loop over the items for the features and a full sort of the scores. It runs in float32 with as many
threads as suit it best, as do the batches. Loop and batches take turns; the ratio is the median of the rounds' ratios.
Beside torch in float64 the batches run on the engines that a worker chooses from (jobs/recommend/engines.py): those in
float32 once alone, where near ties fall as they may, and once with these settled in float64; INT8; and a blend of
network, transition counts and EASE^R, by torch and with its network on ONNX Runtime.
Last line: {"users_per_s": …, "ratio_to_loop": …, "identical": …, "ways": {"onnx": {"users_per_s": …, …}, …}}: those of
torch first; identical is the share of users whose list is the loop's, for a blend that of one user at a time, and
items_kept the share of the items that are in both.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

import numpy as np
import torch

from jobs.recommend import data, fit
from jobs.recommend.blend import Blend, counted
from jobs.recommend.engines import ENGINES
from jobs.recommend.features import Counts, count
from jobs.recommend.histories import Histories, leave_one_out
from jobs.recommend.model import Recommender, pack
from jobs.recommend.precompute import Exhaustive, Search, top_lists
from jobs.recommend.profile import FeatureTable
from jobs.recommend.ranker import Ranker
from jobs.recommend.settled import Settled, error
from jobs.training.device import prepare, resolve

TOP_K = 100
ROUNDS = 7
SINGLY = 100  # users of a blend, computed one by one
Array = np.ndarray[Any, Any]
T = TypeVar("T")


@torch.inference_mode()
def loop(
    model: Recommender, histories: list[Array], items: tuple[str, ...], features: dict[str, Any]
) -> list[tuple[list[int], Counts]]:
    answers = []
    for history in histories:
        rows, last = pack([history], model.shape)
        scores = model(rows)[0, int(last[0])]  # (L, items), of which the last row is used
        scores[torch.from_numpy(history)] = -torch.inf
        ranked = scores.sort(descending=True, stable=True).indices[:TOP_K]
        answers.append((ranked.tolist(), count(features[items[item]] for item in history)))
    return answers


def batches(
    ranker: Ranker, histories: list[Array], table: FeatureTable, search: Search | None = None
) -> list[tuple[list[int], Counts]]:
    tops = top_lists(ranker, histories, TOP_K, search=search)
    return list(zip(tops.lists(), table.counts(histories), strict=True))


def ways(model: Recommender, known: Histories) -> dict[str, tuple[Ranker, Search]]:
    """By name: what ranks, and how its lists are found."""
    some = list(known)[::4]
    made: dict[str, tuple[Ranker, Search]] = {}
    for name, build in ENGINES.items():
        fast = build(model)
        made[f"{name} alone"] = (model, Exhaustive(fast))
        if name != "int8":
            made[name] = (model, Settled(fast, model, error(fast, model, some)))
    parts, _ = counted(known)
    parts = {"network": model, "transitions": parts["transitions"], "ease": parts["ease"]}
    blend = Blend(parts, {"network": 0.6, "transitions": 0.2, "ease": 0.2})
    fast_blend = blend.with_network(ENGINES["onnx"](model))
    made["blend"] = (blend, Exhaustive(blend))
    made["blend, onnx"] = (blend, Settled(fast_blend, blend, error(fast_blend, blend, some)))
    return made


def main() -> None:
    torch.set_num_threads(2)
    dataset = data.load(data.ML_100K)
    split = leave_one_out(dataset.histories)
    print("training three epochs, so that the scores are those of a real model …", file=sys.stderr)
    loop_model = fit.fit(split, replace(fit.Recipe(), epochs=3)).model  # float32, as it was trained
    model = prepare(copy.deepcopy(loop_model), resolve("cpu"))
    histories, items = list(dataset.histories), dataset.histories.items
    features, users = dataset.catalogue.features, len(histories)
    table = FeatureTable(items, features)

    some = histories[:300]
    loop_threads = min((1, 2), key=lambda count: timed(lambda: loop(loop_model, some, items, features), count)[0])
    batch_threads = min((1, 2), key=lambda count: timed(lambda: batches(model, histories, table), count)[0])
    torch.set_num_threads(batch_threads)  # ONNX Runtime's sessions keep what they are made with
    others = ways(model, dataset.histories)
    shown = {"torch": (model, Exhaustive(model)), **others}

    expected = loop(model, histories, items, features)  # untimed: float64, in which every order is decided
    in_loop = [ranked for ranked, _ in expected]
    blend = others["blend"][0]
    singly = [top_lists(blend, [history], TOP_K).lists()[0] for history in histories[:SINGLY]]
    identical, items_kept = {}, {}
    for name, (ranker, search) in shown.items():
        got = batches(ranker, histories, table, search)
        if name == "torch":
            differ = sum(mine != theirs for mine, theirs in zip(got, expected, strict=True))
        against = singly if ranker is blend else in_loop
        same = [mine == theirs for (mine, _), theirs in zip(got, against, strict=False)]
        identical[name] = round(sum(same) / len(same), 4)
        kept = [len({*mine} & {*theirs}) / TOP_K for (mine, _), theirs in zip(got, against, strict=False)]
        items_kept[name] = round(sum(kept) / len(kept), 4)
    loop_s, batch_s = [], {name: list[float]() for name in shown}
    for _ in range(ROUNDS):  # in turns, so that whatever else runs here slows all
        seconds, in_float32 = timed(lambda: loop(loop_model, histories, items, features), loop_threads)
        loop_s.append(seconds)
        for name, (ranker, search) in shown.items():
            work = partial(batches, ranker, histories, table, search)
            several = [timed(work, batch_threads)[0] for _ in range(5 if name == "torch" else 3)]
            batch_s[name].append(statistics.median(several))
    close = sum(mine == theirs for mine, theirs in zip(in_float32, expected, strict=True))

    def told(name: str, threads: int, times: list[float]) -> tuple[float, float]:
        rates = [users / each for each in times]
        ratio = statistics.median(one / other for one, other in zip(loop_s, times, strict=True))
        spread = f"({min(rates):.0f} to {max(rates):.0f})"
        same = f"lists kept {identical[name]:.2%}, items {items_kept[name]:.2%}" if name in identical else ""
        rate = statistics.median(rates)
        print(f"{name:16} {threads} thread(s) {rate:8.0f} users/s {ratio:6.1f}x   {spread:18} {same}")
        return round(rate, 1), round(ratio, 2)

    loop_rate, _ = told("loop", loop_threads, loop_s)
    figures = {}
    for name, times in batch_s.items():
        rate, ratio = told(name, batch_threads, times)
        figures[name] = {
            "users_per_s": rate, "ratio_to_loop": ratio, "identical": identical[name], "items_kept": items_kept[name],
        }  # fmt: skip
    print(
        f"lists that differ from the loop's in float64: {differ} of {users}; the loop's own in float32: {users - close}"
    )
    result = {**figures.pop("torch"), "identical": differ == 0, "loop_users_per_s": loop_rate, "ways": figures}
    print(json.dumps(result))


def timed(work: Callable[[], T], threads: int) -> tuple[float, T]:
    torch.set_num_threads(threads)
    begin = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin, answer


if __name__ == "__main__":
    main()
