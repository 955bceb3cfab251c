"""Pre-computation of all users of MovieLens-100K: batches against the loop of one forward a user.

The loop is what the replaced system did: for each user one forward over the whole window with the scores of every
position, a Python loop over the items for the features and a full sort of the scores. It runs in float32 on one and on
two threads, and its best round of all is what the best round of the batches is held against.
Last line: {"users_per_s": …, "ratio_to_loop": …, "identical": …}.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from jobs.recommend import data, fit
from jobs.recommend.histories import leave_one_out
from jobs.recommend.model import Recommender, pack
from jobs.recommend.precompute import top_lists
from jobs.recommend.profile import Counts, FeatureTable, count
from jobs.training.device import prepare, resolve

TOP_K = 100
ROUNDS = 3
Array = np.ndarray[Any, Any]


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
    loop_s, batch_s = [], []
    for _ in range(ROUNDS):  # in turns, so that whatever else runs here slows both
        for threads in (1, 2):  # a forward of one row may be faster on one core
            torch.set_num_threads(threads)
            begin = time.perf_counter()
            in_float32 = loop(loop_model, histories, items, features)
            loop_s.append(time.perf_counter() - begin)
        for _ in range(5):
            begin = time.perf_counter()
            batches(model, histories, table)
            batch_s.append(time.perf_counter() - begin)
    close = sum(mine == theirs for mine, theirs in zip(in_float32, expected, strict=True))

    best_loop, best_batch = users / min(loop_s), users / min(batch_s)
    print(f"{'users/s':24}{'best':>10}{'median':>10}")
    print(f"{'loop, one a forward':24}{best_loop:10.0f}{users / float(np.median(loop_s)):10.0f}")
    print(f"{'batches':24}{best_batch:10.0f}{users / float(np.median(batch_s)):10.0f}")
    print(
        f"lists that differ from the loop's in float64: {differ} of {users}; the loop's own in float32: {users - close}"
    )
    result = {
        "users_per_s": round(best_batch, 1),
        "ratio_to_loop": round(best_batch / best_loop, 2),
        "identical": differ == 0,
        "loop_users_per_s": round(best_loop, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
