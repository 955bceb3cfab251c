"""The Celery app with a schedule of short periods, for beats under test: celery -A tests.chaos.every_second beat."""

from broker.app import app

app.conf.beat_schedule = {
    "every-second": {"task": "tests.nothing", "schedule": 1.0},
    "every-two-seconds": {"task": "tests.echo", "schedule": 2.0, "kwargs": {"value": "two"}},
}
