"""What taking in a few new items saves against rebuilding a user: ids mapped, features counted, and the whole with the
model's pass, in this process's processor time (so that others on the machine matter less).

MovieLens-100K's users, their last three items new. Postgres is left out: both ways read the history, whose hash
decides, and write the same row. Last line: {"rebuilt_us", "incremental_us", …} per user, of the best of five rounds.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEW, ROUNDS, BATCH = 3, 5, 512


def least_us(work: Callable[[], object], users: int) -> float:
    """Microseconds a user."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return round(best / users * 1e6, 1)


def main() -> None:
    from dataclasses import replace

    from db.recommend import History
    from jobs.recommend import artifact, data
    from jobs.recommend.fit import QUICK, fit
    from jobs.recommend.histories import leave_one_out
    from jobs.recommend.incremental import mapped, state
    from jobs.recommend.precompute import top_lists
    from jobs.recommend.profile import profile_hash

    dataset = data.load(data.ML_100K)
    split = leave_one_out(dataset.histories)
    recipe = replace(QUICK, dim=64, length=50, epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        artifact.save_model(Path(folder), fit(split, recipe), recipe, dataset, {})
        loaded = artifact.load_model(Path(folder))
    found = []
    for user in range(BATCH):
        ids = dataset.histories.ids(user)
        before = mapped(History("", "", ids[:-NEW], None, None), loaded)
        kept = json.loads(json.dumps(state(before, loaded.table.counts([before.known])[0])))
        found.append(History("", profile_hash(ids), ids, profile_hash(ids[:-NEW]), kept))

    def alone(rebuild: bool) -> None:
        for each in found:
            user = mapped(each, loaded, rebuild=rebuild)
            _ = user.counts or loaded.table.counts([user.known])

    def batch(rebuild: bool) -> None:
        users = [mapped(each, loaded, rebuild=rebuild) for each in found]
        if rebuild:
            loaded.table.counts([user.known for user in users])

    known = [mapped(each, loaded).known for each in found]
    model = loaded.ranker
    states = [json.dumps(each.state) for each in found]
    answer: dict[str, Any] = {"new_items": NEW, "items": round(sum(map(len, known)) / len(known))}
    answer |= {
        "rebuilt_us": least_us(lambda: alone(rebuild=True), BATCH),
        "incremental_us": least_us(lambda: alone(rebuild=False), BATCH),
        "rebuilt_batch_us": least_us(lambda: batch(rebuild=True), BATCH),
        "incremental_batch_us": least_us(lambda: batch(rebuild=False), BATCH),
        "state_read_us": least_us(lambda: [json.loads(each) for each in states], BATCH),
        "model_alone_us": least_us(lambda: [top_lists(model, [each], 100) for each in known], BATCH),
        "model_batch_us": least_us(lambda: top_lists(model, known, 100), BATCH),
        "state_bytes": round(sum(map(len, states)) / len(states)),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
