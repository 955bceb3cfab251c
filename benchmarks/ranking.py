"""Ranking on MovieLens-100K's frozen split: networks, blends and baselines, by the code of recommend.evaluate.

Full ranking, seen items filtered, unless a protocol is named; means over the seeds; validation chooses, and the losses
are shown too. Last line: {"models": {name: {"ndcg@10": …, "hit@10": …, "train_s": …, "interval": [low, high],
"seeds": [...], …}}, "pairs": [...], "chosen": …, …}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

from jobs.recommend import contest, data, frozen
from jobs.recommend.contest_page import Page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42, help="the first")
    parser.add_argument("--models", nargs="+", choices=contest.NAMES, default=list(contest.NAMES))
    parser.add_argument("--quick", action="store_true", help="small networks and two epochs")
    parser.add_argument("--data", default=data.ML_100K, help="or a file with the columns user, item, timestamp")
    parser.add_argument("--out", type=Path, help="folder for report.json, report.md and index.html")
    given = parser.parse_args()

    begin = time.perf_counter()
    loaded = data.load(given.data)
    split, said = frozen.split_of(loaded.histories, loaded.name)
    contestants = contest.Contestants(split, quick=given.quick)
    seeds = range(given.seed, given.seed + given.seeds)

    def tell(done: int, total: int, name: str) -> None:
        print(f"{time.perf_counter() - begin:6.0f} s, {done + 1} of {total}: {name}", file=sys.stderr)

    held = contest.hold(contestants, given.models, seeds, tell)
    facts = {"split": said, "split_sha256": frozen.freeze(split).sha256, "seeds": f"{seeds[0]} to {seeds[-1]}"}
    page = Page(f"Recommenders on {loaded.name}", held, facts, held.pairs())
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        page.write(given.out)
    print(page.markdown())
    kept = {name: page.json()[name] for name in ("models", "pairs", "verdict", "left_out")}
    print(json.dumps(kept | {"chosen": held.chosen.name, **facts, "seconds": round(time.perf_counter() - begin, 1)}))


if __name__ == "__main__":
    main()
