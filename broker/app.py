"""The Celery application; its settings are in celeryconfig.py and are read on first use."""

from typing import Any

from celery import Celery

from broker.log import configure


class App(Celery):
    """Celery, except that a job that is sent by its name is recorded in the ledger like any other."""

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Submit a declared job by its name. Raises UnknownJob, also for a plain task: without a row none is run."""
        from broker.job import find

        return find(name).apply_async(args, kwargs, **options)


configure()
app = App(
    "gristmill",
    amqp="broker.transport:AMQP",
    control="broker.control:Control",
    events="broker.events:Events",
    set_as_current=True,
)
app.config_from_object("celeryconfig")
