"""Pre-computation of all users of MovieLens-100K: batches against the loop of one forward a user.

The loop is what the replaced system did: for each user one forward over the whole window with the scores of every
position, a Python loop over the items for the features and a full sort of the scores. It runs in float32 with as many
threads as suit it best, as do the batches. Loop and batches take turns; the ratio is the median of the rounds' ratios.
Last line: {"users_per_s": …, "ratio_to_loop": …, "identical": …}.
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
from typing import Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

import numpy as np
import torch

from jobs.recommend import data, fit
from jobs.recommend.histories import leave_one_out
from jobs.recommend.model import Recommender, pack
from jobs.recommend.precompute import top_lists
from jobs.recommend.profile import Counts, FeatureTable, count
from jobs.training.device import prepare, resolve

TOP_K = 100
ROUNDS = 7
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


def batches(model: Recommender, histories: list[Array], table: FeatureTable) -> list[tuple[list[int], Counts]]:
    tops = top_lists(model, histories, TOP_K)
    return list(zip(tops.lists(), table.counts(histories), strict=True))


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

    expected = loop(model, histories, items, features)  # untimed: float64, in which every order is decided
    got = batches(model, histories, table)
    differ = sum(mine != theirs for mine, theirs in zip(got, expected, strict=True))
    some = histories[:300]
    loop_threads = min((1, 2), key=lambda count: timed(lambda: loop(loop_model, some, items, features), count)[0])
    batch_threads = min((1, 2), key=lambda count: timed(lambda: batches(model, histories, table), count)[0])
    loop_s, batch_s = [], []
    for _ in range(ROUNDS):  # in turns, so that whatever else runs here slows both
        seconds, in_float32 = timed(lambda: loop(loop_model, histories, items, features), loop_threads)
        loop_s.append(seconds)
        several = [timed(lambda: batches(model, histories, table), batch_threads)[0] for _ in range(5)]
        batch_s.append(statistics.median(several))
    close = sum(mine == theirs for mine, theirs in zip(in_float32, expected, strict=True))
    ratios = [one / other for one, other in zip(loop_s, batch_s, strict=True)]

    for name, threads, times in (("loop", loop_threads, loop_s), ("batches", batch_threads, batch_s)):
        rates = [users / each for each in times]
        spread = f"({min(rates):.0f} to {max(rates):.0f})"
        print(f"{name:8} {threads} thread(s) {statistics.median(rates):8.0f} users/s   {spread}")
    print(f"ratio {statistics.median(ratios):.1f}   ({min(ratios):.1f} to {max(ratios):.1f})")
    print(
        f"lists that differ from the loop's in float64: {differ} of {users}; the loop's own in float32: {users - close}"
    )
    result = {
        "users_per_s": round(users / statistics.median(batch_s), 1),
        "ratio_to_loop": round(statistics.median(ratios), 2),
        "identical": differ == 0,
        "loop_users_per_s": round(users / statistics.median(loop_s), 1),
    }
    print(json.dumps(result))


def timed(work: Callable[[], T], threads: int) -> tuple[float, T]:
    torch.set_num_threads(threads)
    begin = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin, answer


if __name__ == "__main__":
    main()
