"""Requests to a remote service at its pace, over all workers: each takes its turn, in Redis, before it asks.

The turns are those of the generic cell rate algorithm (ITU-T I.371): one time is kept, at which the next request is
due, and each request moves it on by the interval. Redis' clock is everybody's.
"""

import time
from collections.abc import Callable

import redis

from broker import cache

# KEYS: the time. ARGV: the interval, and from now the earliest time that counts: past for what may follow a silence at
# once, future for when nobody is to ask. All in seconds. Returns how long to wait.
_TURN = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now + tonumber(ARGV[2]))
local wait = math.max(0, due - now)
local after = due + tonumber(ARGV[1])
redis.call('SET', KEYS[1], string.format('%.6f', after), 'EX', math.ceil(math.max(1, after - now) + 60))
return string.format('%.6f', wait)
"""


class Pace:
    """So many requests a minute to one service; while Redis is away, each process keeps the pace by itself.

    burst: requests that may follow each other at once after a silence.
    """

    def __init__(
        self, service: str, per_minute: float, burst: int = 3, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.per_minute = per_minute
        self._key = cache.PACE.format(service=service)
        self._burst, self._sleep = burst, sleep
        self._due = 0.0  # by this process's clock, for when Redis is away

    def turn(self) -> None:
        """Wait until a request may be made, and count it."""
        interval = 60 / self.per_minute
        wait = self._take(interval, -interval * (self._burst - 1))
        if wait > 0:
            self._sleep(wait)

    def hold(self, seconds: float) -> None:
        """Nobody is to ask for so long: the service said so."""
        self._take(0.0, seconds)

    def _take(self, interval: float, earliest: float) -> float:
        try:
            return float(cache.redis_client().eval(_TURN, 1, self._key, interval, earliest))
        except redis.RedisError as error:
            cache.away(error, "each process keeps the pace by itself meanwhile")
        now = time.monotonic()
        due = max(self._due, now + earliest)
        self._due = due + interval
        return max(0.0, due - now)
