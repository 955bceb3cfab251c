"""The relay process: rounds of `broker.relay` until it is told to stop."""

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

log = structlog.get_logger()

PERIOD_S = 0.5
RECONCILE_S = 5.0


class Relay:
    """Runs rounds, and survives outages of Postgres and Redis."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._rescue_from = 0.0
        self._reconcile_at = 0.0

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
            done = relay.tick(rescue=now >= self._rescue_from)
            if now >= self._reconcile_at:
                self._reconcile_at = now + RECONCILE_S * random.uniform(0.8, 1.2)
                relay.reconcile()
            return done
        except OperationalError as error:
            # Leases ran out because nobody could renew them: give their holders the time of one to do so.
            self._rescue_from = now + settings().lease_seconds
            log.warning("postgres_away", reason=str(error).split("\n")[0])
        except (BrokerError, RedisError, OSError) as error:
            log.warning("redis_away", reason=str(error).split("\n")[0])
        except Exception:
            log.exception("relay_round_failed")  # the next round may succeed; a dead relay helps nobody
        return None


def main() -> None:
    """Run a relay until SIGTERM or SIGINT."""
    process = Relay()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stopping.set())
    process.run()
