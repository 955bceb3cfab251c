"""The rankers to beat, each a file: fitted on histories, they are what jobs.recommend.ranker.Ranker says, on a CPU."""

from collections.abc import Callable

from jobs.recommend.baselines.bpr import Bpr
from jobs.recommend.baselines.ease import Ease, RecentEase, TooManyItems
from jobs.recommend.baselines.item_knn import ItemKnn
from jobs.recommend.baselines.popularity import Popularity
from jobs.recommend.baselines.transitions import Transitions
from jobs.recommend.histories import Histories
from jobs.recommend.ranker import Ranker

__all__ = ["BASELINES", "Bpr", "Ease", "ItemKnn", "Popularity", "RecentEase", "TooManyItems", "Transitions"]

BASELINES: dict[str, Callable[[Histories], Ranker]] = {
    "popularity": Popularity.fit,
    "item-knn": ItemKnn.fit,
    "bpr": Bpr.fit,
    "ease": Ease.fit,
    "recent-ease": RecentEase.fit,
    "transitions": Transitions.fit,
}
