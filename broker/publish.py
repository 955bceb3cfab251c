"""Hands nudges to Redis: many in one pipeline, in the form in which Celery's workers expect a message.

Celery's `apply_async` builds and sends one message at a time (about 1 ms each). Every nudge of this project has the
same empty body and differs in a few headers, so the envelope (Celery message protocol 2 within kombu's virtual
transport) is built here, and LPUSHed onto kombu's own keys.
"""

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
from broker.message import BODY, SHOWN_CHARACTERS, named
from db.outbox import Nudge

_PAGE = 500  # messages read at once: a hostile one may have megabytes
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
    shown = json.dumps(nudge.params)[:SHOWN_CHARACTERS]
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
        {"body": BODY, "content-encoding": "utf-8", "content-type": "application/json",
         "properties": properties, "headers": headers}
    )  # fmt: skip


def publish(nudges: Sequence[Nudge]) -> None:
    """Put the nudges on their queues, in order; those of jobs that had begun before go to the front.

    Raises kombu's OperationalError when Redis cannot be reached.
    """
    lists: dict[tuple[str, int, bool], list[str]] = defaultdict(list)
    for nudge in nudges:
        lists[nudge.queue, nudge.priority, nudge.begun].append(envelope(nudge))
    with app.pool.acquire(block=True, timeout=10) as connection:
        try:
            channel = connection.default_channel
            with channel.conn_or_acquire() as client:
                pipeline = client.pipeline(transaction=False)
                for (queue, priority, begun), messages in lists.items():
                    key = channel._q_for_pri(queue, priority)
                    push = pipeline.rpush if begun else pipeline.lpush  # workers take from the right
                    for start in range(0, len(messages), 1000):
                        push(key, *messages[start : start + 1000])
                pipeline.execute()
        except (*connection.connection_errors, *connection.channel_errors) as error:
            raise OperationalError(f"Redis cannot be reached: {error}") from error


def lengths(queues: Iterable[str]) -> dict[str, int]:
    """How many messages wait in Redis on each queue, over all priorities."""
    with app.pool.acquire(block=True, timeout=10) as connection:
        channel = connection.default_channel
        return {queue: channel._size(queue) for queue in queues}


def queued_ids(queue: str) -> set[UUID]:
    """The jobs that the messages of a queue name. What is no message of ours names none: a worker will drop it."""
    found: set[UUID | None] = set()
    with app.pool.acquire(block=True, timeout=10) as connection:
        channel = connection.default_channel
        with channel.conn_or_acquire() as client:
            for priority in channel.priority_steps:
                key, start = channel._q_for_pri(queue, priority), 0
                # From the end where messages are added, so that what moves meanwhile is read twice, not never.
                while page := client.lrange(key, start, start + _PAGE - 1):
                    found.update(map(named, page))
                    start += len(page)
    return {each for each in found if each is not None}
