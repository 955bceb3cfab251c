"""Models that stay loaded in this process from one job to the next: a bounded pool, the least recently used goes."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar, cast

import structlog

log = structlog.get_logger()
T = TypeVar("T")


class ResidentModels:
    """See broker.context.ResidentModels."""

    def __init__(self, capacity: int = 4) -> None:
        self._capacity = capacity
        self._models: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str, load: Callable[[], T]) -> T:
        """The resident model under this key, loaded now (and another dropped, if need be) when it is not there."""
        if key not in self._models:
            while len(self._models) >= self._capacity:
                dropped, _ = self._models.popitem(last=False)
                log.info("model_dropped", model=dropped)
            started = time.perf_counter()
            self._models[key] = load()
            log.info("model_loaded", model=key, seconds=round(time.perf_counter() - started, 3))
        self._models.move_to_end(key)
        return cast(T, self._models[key])

    def __len__(self) -> int:
        return len(self._models)


resident = ResidentModels()
