"""The envelope that this project builds is one that kombu and Celery take for their own."""

import json
from uuid import uuid4

from celery.worker.request import Request
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import Message

from broker.app import app
from broker.publish import envelope
from db.outbox import Nudge

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@app.task(name="celery.ping")
def ping() -> None:
    """Something for the request to be of."""


def received(nudge: Nudge) -> Request:
    channel = app.connection_for_write("memory://").channel()
    message = Message(json.loads(envelope(nudge)), channel=channel)
    return Request(message, app=app, task=app.tasks["celery.ping"], decoded=False)


def test_celery_reads_it_as_the_job() -> None:
    nudge = Nudge(uuid4(), "celery.ping", "gpu.edit", 6, {"x": 1}, 2.5, uuid4(), uuid4())

    request = received(nudge)

    assert (request.id, request.name, request.root_id) == (str(nudge.id), "celery.ping", str(nudge.root_id))
    assert request.parent_id == str(nudge.parent_id)
    assert request.time_limits == [2.5, None]
    assert request.message.delivery_info["routing_key"] == "gpu.edit"
    assert request.message.properties["priority"] == 6
    assert json.loads(request.kwargsrepr) == {"x": 1}
    args, kwargs, embed = request.message.payload
    assert (args, kwargs, embed["chain"]) == ([], {}, None)


def test_a_job_without_a_parent_is_its_own_root() -> None:
    nudge = Nudge(uuid4(), "celery.ping", "cpu", 0)

    assert (received(nudge).root_id, received(nudge).parent_id) == (str(nudge.id), None)


def test_no_two_messages_have_the_same_delivery_tag() -> None:
    nudge = Nudge(uuid4(), "celery.ping", "cpu", 0)

    assert len({json.loads(envelope(nudge))["properties"]["delivery_tag"] for _ in range(100)}) == 100


@given(TEXT | st.sampled_from(["@id@", "@params@", "@tag@", '"@parent@"', "\\", '"', "\0"]))
def test_no_text_in_the_parameters_breaks_it(text: str) -> None:
    nudge = Nudge(uuid4(), "celery.ping", "cpu", 0, {"t": text})

    read = json.loads(envelope(nudge))

    assert read["headers"]["id"] == str(nudge.id)
    assert read["headers"]["kwargsrepr"] == json.dumps({"t": text})[:1024]
