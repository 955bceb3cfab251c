"""Hands nudges to Redis: many in one pipeline, in the form in which Celery's workers expect a message.

Celery's `apply_async` builds and sends one message at a time (about 1 ms each). Every nudge of this project has the
same empty body and differs in a few headers, so the envelope (Celery message protocol 2 within kombu's virtual
transport) is built here, and LPUSHed onto kombu's own keys.
"""

import base64
import json
import os
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from kombu.exceptions import OperationalError

from broker.app import app
from db.ledger import Nudge

_NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_BODY = base64.b64encode(json.dumps([[], {}, _NOTHING]).encode()).decode()
_SHOWN_CHARACTERS = 1024  # of the parameters, in Flower


@cache
def _origin() -> str:
    return f"gen{os.getpid()}@{socket.gethostname()}"


def envelope(nudge: Nudge) -> str:
    """The message of one nudge as kombu's Redis transport stores it."""
    job_id = str(nudge.id)
    headers: dict[str, Any] = {
        "lang": "py", "task": nudge.kind, "id": job_id, "shadow": None, "eta": None, "expires": None,
        "group": None, "group_index": None, "retries": 0, "timelimit": [nudge.time_limit_s, None],
        "root_id": str(nudge.root_id or nudge.id), "parent_id": nudge.parent_id and str(nudge.parent_id),
        "argsrepr": "()", "kwargsrepr": json.dumps(nudge.params)[:_SHOWN_CHARACTERS], "origin": _origin(),
        "ignore_result": False, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    properties = {
        "correlation_id": job_id, "reply_to": "", "delivery_mode": 2, "priority": nudge.priority,
        "delivery_info": {"exchange": "", "routing_key": nudge.queue},
        "body_encoding": "base64", "delivery_tag": str(uuid4()),
    }  # fmt: skip
    return json.dumps(
        {"body": _BODY, "content-encoding": "utf-8", "content-type": "application/json",
         "headers": headers, "properties": properties}
    )  # fmt: skip


def publish(nudges: Sequence[Nudge]) -> None:
    """Put the nudges on their queues, in order. Raises kombu's OperationalError when Redis cannot be reached."""
    lists: dict[tuple[str, int], list[str]] = defaultdict(list)
    for nudge in nudges:
        lists[nudge.queue, nudge.priority].append(envelope(nudge))
    with app.pool.acquire(block=True, timeout=10) as connection:
        try:
            channel = connection.default_channel
            with channel.conn_or_acquire() as client:
                pipeline = client.pipeline(transaction=False)
                for (queue, priority), messages in lists.items():
                    key = channel._q_for_pri(queue, priority)
                    for start in range(0, len(messages), 1000):
                        pipeline.lpush(key, *messages[start : start + 1000])
                pipeline.execute()
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise OperationalError(f"Redis cannot be reached: {error}") from error


def lengths(queues: Iterable[str]) -> dict[str, int]:
    """How many messages wait in Redis on each queue, over all priorities."""
    with app.pool.acquire(block=True, timeout=10) as connection:
        channel = connection.default_channel
        return {queue: channel._size(queue) for queue in queues}


def queued_ids(queue: str) -> set[UUID]:
    """The jobs that the messages of a queue name."""
    found: set[UUID] = set()
    with app.pool.acquire(block=True, timeout=10) as connection:
        channel = connection.default_channel
        with channel.conn_or_acquire() as client:
            for priority in channel.priority_steps:
                for raw in client.lrange(channel._q_for_pri(queue, priority), 0, -1):
                    try:
                        found.add(UUID(json.loads(raw)["headers"]["id"]))
                    except (ValueError, KeyError, TypeError):
                        continue  # not one of ours: the worker that takes it says so
    return found
