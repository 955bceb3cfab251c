"""Ranking on MovieLens-100K's test items, full ranking, seen items filtered: the neural models against the baselines.

All models know the same when the test item is ranked; the baselines are also fitted on the validation item, which the
neural ones use to stop. Last line: {"models": {name: {"ndcg@10": …, "hit@10": …, "train_s": …}}}.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

from jobs.recommend import data, evaluate, fit
from jobs.recommend.baselines import BASELINES, Scorer
from jobs.recommend.histories import leave_one_out

RECIPES = {
    "sasrec": fit.Recipe(),
    "bert4rec": fit.Recipe(architecture="bert4rec", epochs=20, patience=6),
}
COLUMNS = ("ndcg@10", "hit@10", "mrr", "ndcg@10 sampled100", "hit@10 sampled100")


def main() -> None:
    split = leave_one_out(data.load(data.ML_100K).histories)
    known = split.before_test()
    rows: dict[str, dict[str, float]] = {}

    def measure(name: str, scorer: Scorer, begin: float) -> None:
        train_s = time.perf_counter() - begin
        rows[name] = evaluate.on_test(scorer, split) | {"train_s": round(train_s, 2)}

    for name, make in BASELINES.items():
        begin = time.perf_counter()
        measure(name, make(known), begin)
    for name, recipe in RECIPES.items():
        begin = time.perf_counter()
        print(f"training {name}, {recipe.epochs} epochs at most …", file=sys.stderr)
        measure(name, evaluate.scorer(fit.fit(split, recipe).model), begin)

    print(f"{'':12}" + "".join(f"{column:>20}" for column in (*COLUMNS, "train_s")))
    for name, row in rows.items():
        values = "".join(f"{row[column]:20.4f}" for column in COLUMNS)
        print(f"{name:12}{values}{row['train_s']:20.1f}")
    keep = ("ndcg@10", "hit@10", "train_s")
    print(json.dumps({"models": {name: {key: round(row[key], 4) for key in keep} for name, row in rows.items()}}))


if __name__ == "__main__":
    main()
