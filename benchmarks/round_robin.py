"""Gristmill's Celery application, but that a worker of it takes from its queues in turn, as kombu does by default."""

from broker.app import app

app.conf.broker_transport_options = {**app.conf.broker_transport_options, "queue_order_strategy": "round_robin"}
