"""What each training option of the recommender brings on MovieLens-100K, changed alone from the default recipe.

Validation decides; test is shown and chooses nothing. All 1,682 items ranked, seen items filtered.
With --seeds 1: about a minute an option on two quiet cores. Last line: {"options": {name: {"validation": …, …}}}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

import numpy as np

from jobs.recommend import data, evaluate
from jobs.recommend.fit import Recipe, fit, prefer
from jobs.recommend.histories import Split, leave_one_out

DEFAULT, BERT = "default", "bert4rec"
OPTIONS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "ties in the file's order": {"ties": False},
    "random start": {"svd_start": False},
    "gBCE, 512 negatives": {"loss": "gbce"},
    "sampled softmax, 512 negatives": {"loss": "sampled"},
    "next 3 items": {"ahead": 3},
    "next 5 items": {"ahead": 5},
    "label smoothing .1": {"smoothing": 0.1},
    "crop .3": {"crop": 0.3},
    "reorder .3": {"reorder": 0.3},
    "mask .3": {"blank": 0.3},
    "curriculum 4": {"curriculum": 4},
    "2 blocks": {"blocks": 2},
    "length 100": {"length": 100},
    "dropout .4": {"dropout": 0.4},
    BERT: {"architecture": "bert4rec"},
    f"{BERT}, then 4 epochs of last items": {"architecture": "bert4rec", "recent": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="fewer than the default")
    parser.add_argument("--only", action="append", choices=list(OPTIONS), help="this option and the default")
    given = parser.parse_args()
    split = leave_one_out(data.load(data.ML_100K).histories)
    names = [name for name in OPTIONS if not given.only or name in (DEFAULT, *given.only)]
    rows = {name: _row(split, OPTIONS[name], given.seeds, given.epochs) for name in names}

    print(f"{'':40}{'validation':>12}{'test':>10}{'hit@10':>10}{'best epoch':>12}{'s':>8}   gain")
    for name, row in rows.items():
        print(
            f"{name:40}{row['validation']:12.4f}{row['test']:10.4f}{row['test_hit']:10.4f}{row['epoch']:12.1f}"
            f"{row['seconds']:8.0f}   {row['validation'] - rows[DEFAULT]['validation']:+.4f}"
        )
    print(json.dumps({"seeds": given.seeds, "epochs": given.epochs, "options": rows}))


def _row(split: Split, options: dict[str, Any], seeds: int, epochs: int | None) -> dict[str, float]:
    """Means over seeds 42, 43, …"""
    found = []
    for seed in range(42, 42 + seeds):
        begin = time.perf_counter()
        recipe = prefer(replace(Recipe(), **options, seed=seed))
        fitted = fit(split, replace(recipe, epochs=epochs or recipe.epochs))
        test = evaluate.on_test(evaluate.scorer(fitted.model), split)
        found.append(
            {
                "validation": fitted.best[evaluate.METRIC],
                "test": test[evaluate.METRIC],
                "test_hit": test["hit@10"],
                "epoch": fitted.best_epoch,
                "seconds": time.perf_counter() - begin,
            }
        )
        print(f"{options} seed {seed}: {found[-1]}", file=sys.stderr, flush=True)
    mean: Callable[[str], float] = lambda key: round(float(np.mean([each[key] for each in found])), 4)  # noqa: E731
    return {key: mean(key) for key in found[0]}


if __name__ == "__main__":
    main()
