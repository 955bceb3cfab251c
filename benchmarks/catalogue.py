"""Top lists over catalogues of 2,000, 50,000 and 500,000 items: every item scored, and FAISS IVF, in one run.

Items are synthetic vectors in a network of the default shape: clustered, as items of a genre are, with users whose
vectors point at what they had last; and beside it drawn from one normal distribution, with users whose vectors point
anywhere, for which no index is of use. Real catalogues are in between. Users have 10 to 60 items of three clusters.
What is chosen, and its recall, is what a worker would choose (jobs/recommend/serving.py). With --blend the clustered
network is measured a second time, blended with the transition counts of five times as many users.
Last line: {"2000": {"users_per_s": …, "recall": …, "mb": …, "exact_users_per_s": …, "unclustered": {…}, "blend": {…}},
"50000": …}.

With --users it is another benchmark: a refresh of so many users through real jobs, see benchmarks/everyone.py.
"""

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
import torch

from benchmarks import everyone
from jobs.recommend.baselines import Transitions
from jobs.recommend.blend import Blend
from jobs.recommend.histories import from_sequences
from jobs.recommend.model import Recommender, Shape
from jobs.recommend.precompute import Exhaustive, Search, top_lists
from jobs.recommend.ranker import Ranker
from jobs.recommend.serving import INDEX_FROM, REFERENCE, Served
from jobs.training.device import prepare, resolve

SIZES = (2_000, 50_000, 500_000)
TOP_K = 100
Array = np.ndarray[Any, Any]


def network(items: int, *, clustered: bool) -> tuple[Recommender, Array]:
    """An untrained network with planted item vectors, and the cluster of each item."""
    random = np.random.default_rng(items)
    torch.manual_seed(0)
    shape = Shape("sasrec", items=items)
    made = Recommender(shape)
    clusters = max(8, int(items**0.5) // 2)
    of = random.integers(0, clusters, items)
    vectors = random.standard_normal((items, shape.dim))
    if clustered:
        vectors = random.standard_normal((clusters, shape.dim))[of] + 0.5 * vectors
    vectors *= random.gamma(8, 1 / 8, (items, 1)) / shape.dim**0.5  # some items are liked by more, so they are longer
    with torch.no_grad():
        made.item.weight[:items] = torch.from_numpy(vectors)
        if not clustered:
            made.blocks[-1].feed[-1].weight *= 50  # drowns what the user had last
        made.bias[:] = torch.from_numpy(0.1 * random.standard_normal(items))
    prepare(made, resolve("cpu"))
    return made, of


def users(count: int, clusters: Array, seed: int = 1) -> list[Array]:
    random = np.random.default_rng(seed)
    of = [np.flatnonzero(clusters == number) for number in range(clusters.max() + 1)]
    made = []
    for _ in range(count):
        liked = np.concatenate([of[number] for number in random.choice(len(of), 3, replace=False)])
        made.append(random.choice(liked, min(len(liked), int(random.integers(10, 61))), replace=False))
    return made


def blended(network: Recommender, clusters: Array, count: int) -> Blend:
    known = from_sequences(users(count, clusters, seed=2), [str(item) for item in range(network.items)])
    return Blend({"network": network, "transitions": Transitions.fit(known)}, {"network": 1.0, "transitions": 0.5})


def rate(ranker: Ranker, histories: list[Array], search: Search) -> float:
    began = time.perf_counter()
    top_lists(ranker, histories, TOP_K, search=search)
    return len(histories) / (time.perf_counter() - began)


def measure(items: int, count: int, *, clustered: bool, blend: bool = False) -> dict[str, Any]:
    alone, clusters = network(items, clustered=clustered)
    ranker = blended(alone, clusters, 5 * count) if blend else alone
    histories = users(count, clusters)
    served = Served(ranker)
    began = time.perf_counter()
    served.choose(histories, TOP_K)
    chosen_s = time.perf_counter() - began
    few = histories[: max(64, min(count, 50_000_000 // items))]  # half a million items take a millisecond or three each
    exact = rate(ranker, few, Exhaustive(ranker))
    ways = {each.way: each for each in served.tried}
    index = ways.get("index")
    result = {
        "chosen": served.chosen,
        "users_per_s": round(rate(ranker, histories if served.chosen == "index" else few, served.by), 1),
        "recall": index.recall if index and served.chosen == "index" else 1.0,
        "mb": round((items * (alone.shape.dim + 1) * 8 + getattr(served.by, "bytes", 0)) / 1e6, 1),
        "exact_users_per_s": round(exact, 1),
        "choosing_s": round(chosen_s, 1),
    }
    if index:
        result |= {
            "index_recall": index.recall,
            "index_users_per_s": index.users_per_s,
            "index": index.reason or ("taken" if served.chosen == "index" else "slower"),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="items of the catalogues")
    parser.add_argument("--lists", type=int, default=4096, help="computed for each figure, fewer where they take long")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--users", type=int, help="refresh so many users through real jobs instead")
    parser.add_argument("--blend", action="store_true", help="measure a blend with transition counts, too")
    options = parser.parse_args()
    if options.users:
        print(json.dumps(everyone.refresh(options.users)))
        return
    torch.set_num_threads(options.threads)
    result = {}
    for items in options.sizes:
        found = measure(items, options.lists, clustered=True)
        if items >= INDEX_FROM:
            found["unclustered"] = measure(items, options.lists, clustered=False)
        if options.blend:
            found["blend"] = measure(items, options.lists, clustered=True, blend=True)
        result[str(items)] = found
        for name, each in (("clustered", found), *((name, found.get(name)) for name in ("unclustered", "blend"))):
            if each:
                way = "every item scored" if each["chosen"] == REFERENCE else each["chosen"]
                print(
                    f"{items:7,} items, {name:11}: {each['users_per_s']:8,.0f} users/s by {way}, recall "
                    f"{each['recall']:.3f}, {each['mb']:,.0f} MB; exactly in float64 {each['exact_users_per_s']:8,.0f}"
                )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"the process needed {peak:,.0f} MB at most")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
