"""Which queue a worker takes from next: it stays where its model is loaded, within a budget.

Each model has a queue of its own ("gpu.edit", "gpu.score"), so a worker that stays on a queue switches models less. A
queue that waits is held up by each other queue for at most the budget (so many jobs or seconds, whichever is spent
first) and the job that is running then. An urgent message goes before all that: kombu asks for priorities first.
"""

import time
from collections.abc import Callable, Iterable

from kombu.utils.scheduling import round_robin_cycle

from broker.settings import settings


class StickyCycle(round_robin_cycle):
    """kombu's `queue_order_strategy`: the queue that was taken from last stays first until it is empty or has spent
    its budget; then it goes to the end."""

    def __init__(
        self,
        jobs: int | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.items: list[str] = []
        self._jobs = settings().affinity_jobs if jobs is None else jobs
        self._seconds = settings().affinity_seconds if seconds is None else seconds
        self._clock = clock
        # Jobs taken, and since when. Kept while another queue is in front: an urgent job is a detour; when it ended the
        # stay, a stream of them made this a round robin (benchmarks/affinity.py). Two queues that take turns still
        # starve no third one: each goes to the end once its own budget is spent.
        self._stays: dict[str, tuple[int, float]] = {}

    def update(self, it: Iterable[str]) -> None:
        """The queues to take from have changed: those that stay keep their order, or a reconnect would end the stay."""
        queues = list(it)
        kept = [queue for queue in self.items if queue in queues]
        self.items[:] = kept + [queue for queue in queues if queue not in kept]

    def rotate(self, last_used: str) -> str:
        """A message of this queue was taken."""
        if last_used not in self.items:
            return last_used
        taken, since = self._stays.pop(last_used, (0, self._clock()))
        self.items.remove(last_used)
        if taken + 1 >= self._jobs or self._clock() - since >= self._seconds:
            self.items.append(last_used)
        else:
            self._stays[last_used] = (taken + 1, since)
            self.items.insert(0, last_used)
        return last_used
