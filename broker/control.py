"""Celery's remote control, with revoke answered by the ledger."""

from typing import Any
from uuid import UUID

from celery.app.control import Control as CeleryControl

from broker.canvas import cancel


class Control(CeleryControl):
    """`revoke` works on jobs that no worker has seen yet, and is not forgotten when workers restart."""

    def revoke(self, task_id: str | list[str], *args: Any, terminate: bool = False, **options: Any) -> None:
        """Cancel queued jobs; with `terminate`, ask running ones to stop as well (as Celery's revoke does)."""
        for each in [task_id] if isinstance(task_id, str) else task_id:
            cancel(UUID(str(each)), running=terminate)
