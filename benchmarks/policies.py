"""What each policy costs and gives on MovieLens-100K's test items, and how good the guesses of unseen items are.

Lists of ten for all users, full ranking, seen items filtered. Diversity: mean of 1 - cosine of the network's vectors
over a list's pairs; novelty: mean self-information in bits by training counts; divergence: KL of the list's genres from
those of the user's history, 0 is calibrated (Steck 2018); coverage: share of the catalogue that is in anybody's list.
Last line: {"policies": {name: {...}}, "unseen_items": {...}}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

import numpy as np

from jobs.recommend import data, evaluate, fit
from jobs.recommend.content import Content
from jobs.recommend.features import facts
from jobs.recommend.histories import NONE, leave_one_out
from jobs.recommend.policy.calibration import divergence, mix, spread_over
from jobs.recommend.policy.mmr import spread
from jobs.recommend.policy.novelty import self_information
from jobs.recommend.policy.rerank import POOL, Pool, Weights, rerank

Array = np.ndarray[Any, Any]
TOP_K = 10
EPOCHS = 6  # enough for a real order; the full training is benchmarks/ranking.py's
POLICIES = {
    "none": Weights(),
    "diversity .3": Weights(diversity=0.3),
    "diversity .6": Weights(diversity=0.6),
    "diversity .9": Weights(diversity=0.9),
    "novelty .3": Weights(novelty=0.3),
    "novelty .6": Weights(novelty=0.6),
    "calibration .3": Weights(calibration=0.3),
    "calibration .6": Weights(calibration=0.6),
    "calibration .9": Weights(calibration=0.9),
    "all three .2": Weights(0.2, 0.2, 0.2),
}
COLUMNS = ("ndcg@10", "hit@10", "diversity", "novelty", "divergence", "coverage", "ms a user")


def main() -> None:
    dataset = data.load(data.ML_100K)
    split = leave_one_out(dataset.histories)
    known, items = split.before_test(), dataset.histories.items
    print(f"training {EPOCHS} epochs …", file=sys.stderr)
    model = fit.fit(split, replace(fit.Recipe(), epochs=EPOCHS)).model
    users = np.flatnonzero(split.test != NONE)
    histories, targets = [known[user] for user in users], split.test[users]
    scores = model.scores(histories).float().cpu().numpy()  # (users, items)
    vectors = model.item.weight[: len(items)].detach().float().cpu().numpy()
    features = [dataset.catalogue.features.get(item, {}) for item in items]
    titles = [dataset.catalogue.titles.get(item) for item in items]

    genres = [facts(each).genres for each in features]
    mass = spread_over(genres, sorted({genre for each in genres for genre in each}))
    information = self_information(np.bincount(known.flat, minlength=len(items)))
    unseen = scores.copy()
    for row, history in zip(unseen, histories, strict=True):
        row[history] = -np.inf
    pools = np.argsort(-unseen, axis=1, kind="stable")[:, :POOL]

    def measure(weights: Weights) -> tuple[dict[str, float], Array]:
        begin = time.perf_counter()
        lists = np.empty((len(users), TOP_K), dtype=np.int64)
        for row, (pool, history) in enumerate(zip(pools, histories, strict=True)):
            wanted = mix(mass[history])
            given = Pool(scores[row, pool], vectors[pool], information[pool], mass[pool], wanted)
            lists[row] = pool[rerank(given, weights, TOP_K)]
        seconds = time.perf_counter() - begin
        hits = lists == targets[:, None]
        gains = (hits / np.log2(np.arange(TOP_K) + 2)).sum(axis=1)
        away = [
            float(divergence(mix(mass[history]), mix(mass[row]))) for row, history in zip(lists, histories, strict=True)
        ]
        values = {
            "ndcg@10": float(gains.mean()),
            "hit@10": float(hits.any(axis=1).mean()),
            "diversity": float(np.mean([spread(vectors[row]) for row in lists])),
            "novelty": float(information[lists].mean()),
            "divergence": float(np.mean(away)),
            "coverage": len(np.unique(lists)) / len(items),
            "ms a user": 1000 * seconds / len(users),
        }
        return values, gains

    rows, plain = {}, None
    print(f"{'':16}" + "".join(f"{column:>12}" for column in COLUMNS) + "   ndcg@10 against none, 95 % interval")
    for name, weights in POLICIES.items():
        values, gains = measure(weights)
        plain = gains if plain is None else plain
        less = evaluate.difference(gains, plain)
        rows[name] = {key: round(value, 4) for key, value in values.items()}
        cells = "".join(f"{values[column]:12.4f}" for column in COLUMNS)
        print(f"{name:16}{cells}   {less.mean:+.4f} ({less.low:+.4f} to {less.high:+.4f})")

    begin = time.perf_counter()
    content = Content.fit(vectors, features, titles)
    fit_s = time.perf_counter() - begin
    guesses = content.left_out(scores.T).T
    anybody = np.tile(guesses.mean(axis=0), (len(users), 1))
    percentiles = {
        "from features": _percentile(guesses, histories, targets),
        "from features, the same for everybody": _percentile(anybody, histories, targets),
        "with the item's own events": _percentile(scores, histories, targets),
    }
    print(f"\nmean percentile of the test item among unseen ones (random .5); the regression took {fit_s:.1f} s to fit")
    for name, value in percentiles.items():
        print(f"{name:40}{value:8.4f}")
    unseen_items = {name: round(value, 4) for name, value in percentiles.items()} | {"fit_s": round(fit_s, 2)}
    print(json.dumps({"policies": rows, "unseen_items": unseen_items}))


def _percentile(scores: Array, histories: list[Array], targets: Array) -> float:
    found = []
    for row, history, target in zip(scores, histories, targets, strict=True):
        others = np.delete(row, [*history, target])
        found.append((others < row[target]).mean() + (others == row[target]).mean() / 2)
    return float(np.mean(found))


if __name__ == "__main__":
    main()
