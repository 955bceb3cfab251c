"""Ranking on MovieLens-100K's frozen split: networks, blends and baselines, by the code of recommend.evaluate.

Full ranking, seen items filtered, unless a protocol is named; means over the seeds; validation chooses, and the losses
are shown too. Last line: {"models": {name: {"ndcg@10": …, "hit@10": …, "train_s": …, "interval": [low, high],
"seeds": [...], …}}, "pairs": [...], "chosen": …, …}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the workers, see workers.process.threads; before torch

import numpy as np

from jobs.recommend import contest, data, fit, frozen
from jobs.recommend.contest_page import Page
from jobs.recommend.evaluate import FULL, METRIC, UNFILTERED
from jobs.recommend.histories import NONE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42, help="the first")
    parser.add_argument("--models", nargs="+", choices=contest.NAMES, default=list(contest.NAMES))
    parser.add_argument("--quick", action="store_true", help="small networks and two epochs")
    parser.add_argument("--data", default=data.ML_100K, help="or a file with the columns user, item, timestamp")
    parser.add_argument("--out", type=Path, help="folder for report.json, report.md and index.html")
    parser.add_argument("--recbole", type=Path, metavar="PYTHON", help="one that has RecBole whole: run it beside ours")
    parser.add_argument("--recbole-epochs", type=int, default=3, help="of both; RecBole's take minutes")
    parser.add_argument("--recbole-batch", type=int, default=256, help="rows; it makes one of every prefix")
    given = parser.parse_args()

    begin = time.perf_counter()
    loaded = data.load(given.data)
    split, said = frozen.split_of(loaded.histories, loaded.name)
    contestants = contest.Contestants(split, quick=given.quick)
    seeds = range(given.seed, given.seed + given.seeds)

    def tell(done: int, total: int, name: str) -> None:
        print(f"{time.perf_counter() - begin:6.0f} s, {done + 1} of {total}: {name}", file=sys.stderr)

    held = contest.hold(contestants, given.models, seeds, tell)
    facts = {"split": said, "split_sha256": frozen.freeze(split).sha256, "seeds": ", ".join(map(str, seeds))}
    page = Page(f"Recommenders on {loaded.name}", held, facts, held.pairs())
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        page.write(given.out)
    print(page.markdown())
    peers = {}
    if given.recbole:
        for name in [each for each in contest.NETWORKS if each in given.models]:
            tell(0, 1, f"RecBole's {name}, {given.recbole_epochs} epochs")
            peers[name] = beside(contestants, name, given)
            print(f"{name}, {given.recbole_epochs} epochs each: {peers[name]}")
    kept = {name: page.json()[name] for name in ("models", "pairs", "verdict", "left_out")}
    more = {"recbole": peers} if peers else {}
    more |= {"chosen": held.chosen.name, **facts, "seconds": round(time.perf_counter() - begin, 1)}
    print(json.dumps(kept | more))


def beside(contestants: contest.Contestants, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """RecBole's network and ours, as many epochs each, at the same split and by the same ranking.

    Its data are ours with the place in a history for a time, so that its leave-one-out is ours.
    """
    known, epochs = contestants.split.before_test(), given.recbole_epochs
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "events").mkdir()
        with (folder / "events" / "events.inter").open("w") as file:
            file.write("user_id:token\titem_id:token\ttimestamp:float\n")
            for user, history in enumerate(known):
                items = [*history.tolist(), *contestants.split.test[user : user + 1].tolist()]
                file.writelines(f"{user}\t{item}\t{at}\n" for at, item in enumerate(items) if item != NONE)
        # -I: else `import http` of a library finds benchmarks/http.py, which stands beside the script
        command = [given.recbole.absolute(), "-I", Path(__file__).with_name("recbole_epochs.py").absolute()]
        command += [place, name, str(epochs), str(given.recbole_batch), str(given.seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=place)  # it leaves logs
        theirs = json.loads(done.stdout.splitlines()[-1])
        scores = np.load(folder / "scores.npy")
    row = {known[user].tobytes(): user for user in range(len(known))}
    measured = contestants.measured(lambda histories: scores[[row[each.tobytes()] for each in histories]])
    recipe = replace(fit.Recipe(architecture=name, seed=given.seed), epochs=epochs, patience=epochs)
    fitted = fit.fit(contestants.split, recipe)
    ours = contestants.measured(fitted.model)
    seconds = np.diff([0.0, *(each["seconds"] for each in fitted.history)])  # validation included
    return {
        "epoch_s": {"recbole": theirs["epoch_s"], "ours": seconds.round(2).tolist()},
        "times_faster": round(statistics.median(theirs["epoch_s"]) / statistics.median(seconds.tolist()), 1),
        METRIC: {side: {p: round(of.summary(p)[METRIC], 4) for p in (FULL, UNFILTERED)}
                 for side, of in (("recbole", measured), ("ours", ours))},
    }  # fmt: skip


if __name__ == "__main__":
    main()
