"""The Celery application; its settings are in celeryconfig.py and are read on first use."""

from celery import Celery

app = Celery("gristmill", control="broker.control:Control", set_as_current=True)
app.config_from_object("celeryconfig")
