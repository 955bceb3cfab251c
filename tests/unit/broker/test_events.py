"""What a worker says of its jobs reaches Flower soon, in few messages, and before the worker ends."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection, Queue
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from broker.app import app
from broker.events import Dispatcher
from workers.events import LastEvents


@pytest.fixture
def hub() -> Iterator[Hub]:
    before = get_event_loop()
    hub = Hub()
    set_event_loop(hub)
    yield hub
    set_event_loop(before)
    hub.close()


@pytest.fixture
def told(hub: Hub) -> Iterator[tuple[Dispatcher, Any]]:
    """A worker's dispatcher on kombu's transport in memory, and the queue of one who listens."""
    with Connection("memory://") as connection:
        dispatcher = Dispatcher(connection, hostname="w", app=app, buffer_group=["task"], on_send_buffered=lambda: None)
        listener = Queue("listener", dispatcher.exchange, routing_key="#", auto_delete=True)(connection.channel())
        listener.declare()
        yield dispatcher, listener
        listener.delete()


def test_what_is_said_at_once_goes_in_one_message(hub: Hub, told: tuple[Dispatcher, Any]) -> None:
    dispatcher, listener = told

    for kind in ("task-received", "task-started", "task-succeeded"):
        dispatcher.send(kind, uuid="1")

    assert listener.get() is None
    while (message := listener.get()) is None:
        next(hub.loop)
    assert [each["type"] for each in message.decode()] == ["task-received", "task-started", "task-succeeded"]
    assert listener.get() is None


def test_what_is_said_later_goes_in_another(hub: Hub, told: tuple[Dispatcher, Any]) -> None:
    dispatcher, listener = told
    for kind in ("task-received", "task-succeeded"):
        dispatcher.send(kind, uuid="1")
        while (message := listener.get()) is None:
            next(hub.loop)

        assert [each["type"] for each in message.decode()] == [kind]


def test_a_worker_that_stops_has_told_all(told: tuple[Dispatcher, Any]) -> None:
    dispatcher, listener = told
    dispatcher.send("task-succeeded", uuid="1")

    LastEvents(None).stop(SimpleNamespace(event_dispatcher=dispatcher))

    assert [each["type"] for each in listener.get().decode()] == ["task-succeeded"]
