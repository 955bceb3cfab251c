"""The states of a job, apart from its table, so that naming them costs nobody the import of SQLAlchemy."""

from typing import Final

# Celery's own names, so that AsyncResult, Flower and the ledger speak of the same thing.
PENDING: Final = "PENDING"
STARTED: Final = "STARTED"
RETRY: Final = "RETRY"
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"

WAITING: Final = (PENDING, RETRY)
LIVE: Final = (PENDING, STARTED, RETRY)
FINAL: Final = (SUCCESS, FAILURE, REVOKED)
STATES: Final = (*LIVE, *FINAL)
