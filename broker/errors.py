"""What can go wrong between a caller, the queue and a job's body.

GristmillError
├── InvalidParams      refused at submission: nothing is recorded
├── UnknownJob         no declared job has this name
├── Unavailable        Postgres does not answer: the job is not recorded
├── JobError           raised by a body: permanent, not retried (bad input found late)
├── ChainError         recorded for a link whose predecessor failed: it is not run
└── WorkerLost         recorded by the relay: a worker or its machine went away
Interrupted            ends a run of a body from inside; a BaseException: `except Exception` lets it pass
├── Cancelled          the job's cancellation was requested
├── HandedOver         the worker is stopped: the job goes on elsewhere from its checkpoint
├── LeaseLost          another attempt holds the job now: whatever this one writes is refused
└── Suspended          the body waits for its fan-out's children
"""

from collections.abc import Mapping

_SAID = 200  # characters of another library's message


class GristmillError(Exception):
    """The base of the package's errors. The message names the value and the remedy."""


class InvalidParams(GristmillError, ValueError):
    """A job's parameters are refused. `fields`: what is wrong with which of them, as far as that is known."""

    def __init__(self, line: str = "", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.fields = dict(fields or {})


class UnknownJob(GristmillError, LookupError):
    """No job of this name is declared."""


class Unavailable(GristmillError, ConnectionError):
    """Postgres does not answer, so that nothing can be submitted."""


class JobError(GristmillError):
    """A job cannot succeed, however often it is tried."""


class ChainError(GristmillError):
    """A job before this one in its chain did not succeed."""


class WorkerLost(GristmillError):
    """The worker that ran a job went away."""


class Interrupted(BaseException):
    """Ends the body's run; the runner decides what becomes of the job."""


class Cancelled(Interrupted):
    """The job was cancelled while it ran."""


class HandedOver(Interrupted):
    """The worker is being stopped: the job goes on elsewhere, uncharged."""


class LeaseLost(Interrupted):
    """This attempt no longer holds the job."""


class Suspended(Interrupted):
    """The body ends here and runs again from its top when the children are final."""


def summary(error: BaseException | None) -> str:
    """What an error says in one line, for use within a sentence: others' messages can be pages long, or empty."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:_SAID].rstrip(".:")
