"""The relay process: rounds of `broker.relay` until it is told to stop."""

import math
import random
import signal
import threading
import time

import structlog
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from broker import relay
from broker.settings import settings
from db.engine import autocommit, clock

log = structlog.get_logger()

PERIOD_S = 0.5
RECONCILE_S = 2.0


class Relay:
    """Runs rounds, and survives outages of Postgres and Redis."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._reconcile_at = 0.0
        # By the clock of Postgres, in seconds.
        self._seen_at: float | None = None
        self._rescue_from = 0.0

    def run(self) -> None:
        """Until `stopping` is set. Jitter keeps several relays from moving in step."""
        log.info("relay_ready")
        while not self.stopping.is_set():
            self.round()
            self.stopping.wait(PERIOD_S * random.uniform(0.8, 1.2))
        log.info("relay_stopped")

    def round(self) -> relay.Tick | None:
        """One round; None when Postgres or Redis did not answer."""
        now = time.monotonic()
        try:
            done = relay.tick(rescue=self._may_rescue())
            if now >= self._reconcile_at:
                self._reconcile_at = now + RECONCILE_S * random.uniform(0.8, 1.2)
                relay.reconcile()
            return done
        except OperationalError as error:
            self._seen_at = -math.inf
            log.warning("postgres_away", reason=str(error).split("\n")[0])
        except (BrokerError, RedisError, OSError) as error:
            log.warning("redis_away", reason=str(error).split("\n")[0])
        except Exception:
            log.exception("relay_round_failed")  # the next round may succeed; a dead relay helps nobody
        return None

    def _may_rescue(self) -> bool:
        """Not while Postgres has just been away: nobody could renew a lease, and has the time of one to do so.

        One that hangs (its machine paused, its disk gone) refuses nothing; it shows as a gap between two rounds.
        """
        lease_s = settings().lease_seconds
        with autocommit() as connection:
            at = clock(connection)
        if self._seen_at is not None and at - self._seen_at > lease_s / 2:
            self._rescue_from = at + lease_s
        self._seen_at = at
        return at >= self._rescue_from


def main() -> None:
    """Run a relay until SIGTERM or SIGINT."""
    process = Relay()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stopping.set())
    process.run()
