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
from functools import cache, lru_cache
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from kombu.exceptions import OperationalError

from broker.app import app
from db.outbox import Nudge

_NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_BODY = base64.b64encode(json.dumps([[], {}, _NOTHING]).encode()).decode()
_SHOWN_CHARACTERS = 1024  # of the parameters, in Flower


_tags = count()  # delivery tags need only be unique; a uuid4 for each costs more than the rest of the message


@cache
def _origin_id() -> str:
    return uuid4().hex


@cache
def _origin() -> str:
    return f"gen{os.getpid()}@{socket.gethostname()}"


def envelope(nudge: Nudge) -> str:
    """The message of one nudge as kombu's Redis transport stores it."""
    job_id = str(nudge.id)
    shown = json.dumps(nudge.params)[:_SHOWN_CHARACTERS]
    return (
        _template(nudge.kind, nudge.queue, nudge.priority, nudge.time_limit_s)
        .replace("@tag@", f"{_origin_id()}-{os.getpid()}-{next(_tags)}")
        .replace("@root@", str(nudge.root_id) if nudge.root_id else job_id)
        .replace('"@parent@"', f'"{nudge.parent_id}"' if nudge.parent_id else "null")
        .replace("@id@", job_id)
        .replace('"@params@"', json.dumps(shown))  # last: a user's text may contain the other marks
    )


@lru_cache(maxsize=1024)  # a time limit may be of any size
def _template(kind: str, queue: str, priority: int, time_limit_s: float | None) -> str:
    """The envelope with marks where nudges of one kind differ: filling it in is ten times faster than encoding."""
    headers: dict[str, Any] = {
        "lang": "py", "task": kind, "id": "@id@", "shadow": None, "eta": None, "expires": None,
        "group": None, "group_index": None, "retries": 0, "timelimit": [time_limit_s, None],
        "root_id": "@root@", "parent_id": "@parent@", "argsrepr": "()", "origin": _origin(),
        "ignore_result": False, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
        "kwargsrepr": "@params@",
    }  # fmt: skip
    properties = {
        "correlation_id": "@id@", "reply_to": "", "delivery_mode": 2, "priority": priority,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "body_encoding": "base64", "delivery_tag": "@tag@",
    }  # fmt: skip
    return json.dumps(
        {"body": _BODY, "content-encoding": "utf-8", "content-type": "application/json",
         "properties": properties, "headers": headers}
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
