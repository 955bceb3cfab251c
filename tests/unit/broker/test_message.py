"""Of what lies on a queue, only a nudge is handed on, and of a nudge only what was checked."""

import json
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.message import BODY, Refused, named, read
from broker.publish import envelope
from db.outbox import Nudge
from tests import hostile

SEEDS = 12  # for each class of messages; most have one form
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, st.sampled_from([None, 0.5, 3600]), st.sampled_from([0, 3, 6]), st.booleans())
def test_what_our_clients_send_passes(text: str, limit: float | None, priority: int, redelivered: bool) -> None:
    nudge = Nudge(uuid4(), "tests.add", "gpu.edit", priority, {"t": text}, limit, uuid4(), uuid4())
    sent = json.loads(envelope(nudge))
    if redelivered:  # as kombu marks what a stopped worker puts back
        sent["headers"]["redelivered"] = sent["properties"]["delivery_info"]["redelivered"] = True

    message = read(json.dumps(sent).encode(), "gpu.edit")

    assert message["headers"] == {**sent["headers"], "redelivered": redelivered}
    assert message["body"] == BODY
    assert message["properties"]["priority"] == priority
    assert named(json.dumps(sent).encode()) == nudge.id


@pytest.mark.parametrize("name", hostile.classes(Path("/none"), huge_bytes=100_000))
def test_anything_else_is_refused_or_made_harmless(name: str) -> None:
    make, shape = hostile.classes(Path("/none"), huge_bytes=100_000)[name], hostile.honest()

    for seed in range(SEEDS):
        raw = make(Random(seed))
        named(raw)
        try:
            message = read(raw, "cpu")
        except Refused:
            continue
        assert message["body"] == BODY
        assert message["headers"].keys() == {*shape["headers"], "redelivered"}
        assert message["properties"].keys() == shape["properties"].keys()
        assert message["properties"]["delivery_info"] == {"exchange": "", "routing_key": "cpu"}


@pytest.mark.parametrize(
    "name",
    ["pickle", "yaml", "compressed", "embedded", "arguments", "protocol 1", "control", "times", "deep nesting", "huge"],
)
def test_what_could_make_celery_do_something_is_refused(name: str) -> None:
    make = hostile.classes(Path("/none"), huge_bytes=100_000)[name]

    for seed in range(SEEDS):
        with pytest.raises(Refused):
            read(make(Random(seed)), "cpu")


def test_what_a_newer_client_adds_is_left_out() -> None:
    sent = hostile.honest()
    sent["headers"]["owner"] = sent["properties"]["more"] = sent["more"] = {"anything": [1]}

    message = read(hostile.text(sent), "cpu")

    assert "owner" not in message["headers"]
    assert "more" not in message["properties"]
    assert "more" not in message


def test_two_messages_cannot_have_one_delivery_tag() -> None:
    raw = hostile.text(hostile.honest())

    assert read(raw, "cpu")["properties"]["delivery_tag"] != read(raw, "cpu")["properties"]["delivery_tag"]
