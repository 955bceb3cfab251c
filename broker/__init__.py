"""Handing over: the Celery app, queues, job declarations, submission and the relay."""
