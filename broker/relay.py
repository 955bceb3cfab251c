"""What keeps the ledger and Redis in step: it sends what is due, takes back what was lost, opens what is complete.

Any number of relays may run at once: each statement takes rows that nobody else holds, and a nudge sent twice finds
nothing to claim the second time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy.exc import OperationalError

from broker import canvas
from broker.publish import lengths, queued_ids
from broker.settings import settings
from broker.submit import send
from db import barrier, lease, ledger, outbox
from db.engine import autocommit

log = structlog.get_logger()

BATCH = 1000
# A nudge that left its queue is claimed within milliseconds; one that is in neither place for so long is gone.
MISSING_AFTER_S = 3.0


@dataclass(frozen=True, slots=True)
class Tick:
    """How many jobs one round of the relay touched."""

    rescued: int
    expired: int
    opened: int
    followed: int
    sent: int


def tick(*, rescue: bool = True, up_for_s: float | None = None) -> Tick:
    """One round. `rescue=False` leaves expired leases alone (Postgres was away: their holders may be alive).

    So does a Postgres that has not been up for `up_for_s`, by default the time of a lease.
    """
    up_for_s = settings().lease_seconds if up_for_s is None else up_for_s
    with autocommit() as connection:
        rescued = lease.rescue(connection, up_for_s) if rescue else []
        expired = ledger.expire(connection)
        ready = barrier.ready(connection)
        unfollowed = barrier.unfollowed(connection)
    for each in rescued:
        log.warning("lease_lost", job_id=str(each.id), kind=each.kind, attempt=each.attempt, state=each.state)
    canvas.settled(rescued)
    canvas.settled(expired)
    _each(canvas.follow_up, unfollowed)
    _each(canvas.open_barrier, ready)
    return Tick(len(rescued), len(expired), len(ready), len(unfollowed), send_due())


def _each(go_on: Callable[[UUID], None], ids: Iterable[UUID]) -> None:
    """One canvas that cannot go on must not keep all others, and every due job, from doing so."""
    for each in ids:
        try:
            go_on(each)
        except OperationalError:  # Postgres is away: nothing else will work either
            raise
        except Exception as error:  # without its traceback: it comes again with every round
            log.error("canvas_stuck", id=str(each), error=type(error).__name__, reason=str(error).split("\n")[0])


def send_due() -> int:
    """Send every job that is due and was not sent; stops when Redis does not take them."""
    sent = 0
    while True:
        with autocommit() as connection:
            nudges = outbox.take_due(connection, BATCH)
        if not send(nudges):
            return sent
        sent += len(nudges)
        if len(nudges) < BATCH:
            break
    with autocommit() as connection:
        nudges = outbox.let_all_go(connection, settings().owner_window)
    return sent + len(nudges) if send(nudges) else sent


def reconcile(older_s: float = MISSING_AFTER_S) -> int:
    """Find jobs whose message is lost (Redis flushed, a process died between pop and claim) and make them due again.

    On a busy queue a lost message is overtaken by later ones. Else Redis is asked for its lengths, and only where they
    fall short of the ledger's count for the messages themselves. Of very many the next round takes the rest.
    """
    with autocommit() as connection:
        if lost := outbox.unsend_overtaken(connection, older_s):
            log.warning("nudges_overtaken", count=lost)
        sent = outbox.sent_counts(connection, older_s)
    waiting = lengths(sent)
    for queue, count in sent.items():
        if waiting[queue] >= count:
            continue
        present = queued_ids(queue)  # read before the ledger: a job taken in between is no longer in its answer
        with autocommit() as connection:
            missing = list(islice(outbox.sent_ids(connection, queue, older_s) - present, outbox.MOST))
            if missing:
                outbox.unsend(connection, missing)
                log.warning("nudges_lost", queue=queue, count=len(missing))
        lost += len(missing)
    return lost
