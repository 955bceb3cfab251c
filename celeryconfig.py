"""Every Celery setting and the beat schedule, with the reason beside each that is not obvious."""

import os

from celery.schedules import crontab
from kombu.entity import Queue

from broker.queues import PRIORITY_STEPS, QUEUES
from broker.settings import REACH, redis_url, transport_options

broker_url = redis_url()
result_backend = "broker.backend:LedgerBackend"  # the ledger in Postgres is where results are
broker_transport_options = {
    **transport_options(),
    "priority_steps": list(PRIORITY_STEPS),
    "queue_order_strategy": "broker.affinity:StickyCycle",
    **REACH,
    "max_retries": 0,  # a submission does not wait for Redis: the relay sends what it could not
}
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # a worker outlives any outage of Redis

# What a worker imports: the runner plugs itself into the task class, the rest are declared jobs.
# GRISTMILL_JOBS adds modules of your own, separated by commas.
imports = (
    "workers.runner",
    "workers.lease",
    "workers.intake",
    "workers.stopping",
    "workers.memory",
    "workers.events",
    "jobs.recommend.tasks",
    "jobs.classify.tasks",
    "jobs.compress.tasks",
    "jobs.edit.tasks",
    "jobs.upkeep.tasks",
    *filter(None, os.environ.get("GRISTMILL_JOBS", "").split(",")),
)

task_queues = [Queue(name) for name in QUEUES]  # type: ignore[no-untyped-call]
task_default_queue = "cpu"
task_create_missing_queues = True  # a queue per resident model needs no declaration

accept_content = ["json"]  # never pickle: a message can then not run code
task_serializer = "json"
result_serializer = "json"

# The message is only a nudge, the ledger decides who runs what. Acknowledged late with a window of one, a worker
# holds exactly as many nudges as it has processes, and a nudge never waits behind a long job on a busy worker.
task_acks_late = True
worker_prefetch_multiplier = 1
task_reject_on_worker_lost = False  # the ledger gives a lost job its next attempt, and counts it
task_track_started = False  # the claim is that write; Celery's own would lose the job when Postgres is away
task_store_errors_even_if_ignored = False

# spawn: a child starts clean (CUDA, threads) and the parent may hold a lease thread. Its imports take seconds; only
# the first ones, made before there is any thread, are forked.
worker_pool = "workers.pool:TaskPool"
worker_pool_start_method = "spawn"
worker_proc_alive_timeout = 120
worker_cancel_long_running_tasks_on_connection_loss = False  # a job needs no broker while it runs
worker_hijack_root_logger = False
worker_send_task_events = True  # for Flower
task_send_sent_event = False
worker_enable_remote_control = True
event_queue_expires = 60

timezone = "UTC"
enable_utc = True

# Two beats may run: the id of each tick is derived from the entry and its moment, and the ledger takes an id once.
beat_scheduler = "workers.beat:Scheduler"
beat_schedule = {
    "refresh-recommendations": {
        "task": "recommend.refresh",
        "schedule": crontab(minute=0, hour=3, day_of_week="sunday"),
    },
    "clean-cache": {"task": "upkeep.clean_cache", "schedule": crontab(minute=30, hour=4)},
    "clean-artifacts": {"task": "upkeep.clean_artifacts", "schedule": crontab(minute=45, hour=4)},
    # Small and many: a prediction for each request, a flush every five minutes. Name your own kinds here.
    "clean-jobs": {
        "task": "upkeep.clean_jobs",
        "schedule": crontab(minute=15, hour=4),
        "kwargs": {"days": {"classify.predict": 7, "upkeep.flush_stats": 7}},
    },
    "flush-stats": {"task": "upkeep.flush_stats", "schedule": crontab(minute="*/5")},
}
