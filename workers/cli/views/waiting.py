"""What a job that does not run waits for, in words: its children, its next attempt, or a worker."""

from dataclasses import dataclass
from time import monotonic

from broker.queues import QUEUES
from db.ahead import Ahead
from db.prefix import PREFIX
from db.read import Pulse
from db.state import RETRY
from workers.cli.views.jobs import span, told

PATIENCE_S = 3.0  # most jobs start sooner
ASK_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Reason:
    """kind: children, attempt, later or queued; line: how it reads at this moment."""

    kind: str
    line: str


class Reasons:
    """Of one job, look by look."""

    def __init__(self) -> None:
        self._due_since: float | None = None
        self._asked_at: float | None = None
        self._taken = True

    def of(self, now: Pulse, due: Ahead | None) -> Reason | None:
        """None for a job that runs, or will in a moment. due: what is ahead of one that is due."""
        if due is not None:
            # Since it is due: the parent of a fan-out is so anew, for a moment, each time its children are done.
            self._due_since = self._due_since or monotonic()
            return self._queued(due) if monotonic() - self._due_since >= PATIENCE_S else None
        self._due_since = None
        if now.suspended:
            return Reason("children", f"waits: {told(now)}")
        if now.due_s is None:
            return None
        when = span(now.due_s)
        if now.state == RETRY:
            return Reason("attempt", f"next attempt in {when}, {now.note}")
        return Reason("later", f"due in {when}")

    def _queued(self, due: Ahead) -> Reason:
        if self._asked_at is None or monotonic() - self._asked_at >= ASK_AGAIN_S:
            self._taken = taken(due.queue)
            self._asked_at = monotonic()
        where = behind(due) if self._taken else f"and no worker that answers takes it: `{_start(due.queue)}` starts one"
        return Reason("queued", f"queued on {due.queue} {where}")


class News:
    """What is new enough for a log: what a job waits for when that begins, and now and then how it has changed."""

    def __init__(self) -> None:
        self._last: Reason | None = None
        self._said_at = 0.0

    def is_due(self, reason: Reason | None) -> bool:
        if reason == self._last or reason is None:
            return False
        goes_on = self._last is not None and self._last.kind == reason.kind
        if goes_on and (reason.kind == "queued" or monotonic() - self._said_at < ASK_AGAIN_S):
            return False
        self._last, self._said_at = reason, monotonic()
        return True


def behind(before: Ahead) -> str:
    """What is ahead of a job, and for how long it has run."""
    if before.id is None:
        return "where nothing runs: is a worker there? `gristmill doctor` tells"
    more = f", and {before.others} more" if before.others else ""
    return f"behind {before.kind} {str(before.id)[:PREFIX]}, running for {span(before.running_s)}{more}"


def taken(queue: str) -> bool:
    """Whether a worker answers that takes from this queue; True also where nobody can be asked."""
    import kombu.exceptions
    import redis.exceptions

    from workers.doctor import consumers

    try:
        return any(queue in queues for queues in consumers().values())
    except (kombu.exceptions.OperationalError, redis.exceptions.RedisError):
        return True  # the message waits as well, and `gristmill doctor` tells


def _start(queue: str) -> str:
    own = "" if queue in QUEUES else f" --queue {queue}"
    return f"gristmill worker {queue.split('.')[0]}{own}"
