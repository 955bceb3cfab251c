"""The pages of the registry of models, and the plot of accuracy over latency."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from db import registry
from db.artifact import Artifact
from db.engine import session
from db.job import Job
from db.store import Stored
from tests import rows
from tests.integration.web.test_jobs import submit
from tests.integration.web.test_pages import HOSTILE, Markup
from tests.integration.web.test_recommended import words
from web.pages.plot import Point, plot

MEASURED: dict[str, dict[str, Any]] = {
    "teacher": {"dev": {"accuracy": 0.90, "confusion": [[1, 2]]}},
    "small": {"dev": {"accuracy": 0.80}, "compression": {"p50_ms": 1.0, "speedup_b1": 20.0}},
    "bad": {"dev": {"accuracy": 0.70}, "compression": {"p50_ms": 2.0, "speedup_b1": 10.0}},
    "untimed": {"dev": {"accuracy": 0.95}},
}


def register(name: str, metrics: dict[str, Any], *, data: str = "reviews", by: Any = None, **lineage: Any) -> None:
    """A version in use of a classifier of this data."""
    digest = uuid4().hex * 2
    stored = Stored(digest, 1_000_000, {"data": {"name": data, "sha256": "s"}, "form": "onnx"})
    with session() as opened:
        registry.record(opened, stored, "classify", by)
        registry.add(opened, name, digest, metrics, lineage, by, promote_over=None)


def of_teacher() -> dict[str, Any]:
    return {"quantized_from": {"name": "teacher", "version": 1}}


@pytest.fixture
def registered(client: TestClient) -> None:
    for name, metrics in MEASURED.items():
        register(name, metrics, **(of_teacher() if "compression" in metrics else {}))


def lines(page: str) -> list[tuple[str, str, str, str]]:
    """Of the table below the plot: number, model, milliseconds, whether it is on the front."""
    found = re.findall(r"<tr><td>(.*?)</td><th.*?>([a-z]+@\d)</a>.*?</th><td>.*?</td><td>(.*?)</td><td[^>]*>.*?</td>"
                       r'<td class="words">(.*?)</td>', page)  # fmt: skip
    return [(number, name, ms, front) for number, name, ms, front in found]


def test_an_empty_registry_says_how_to_train(client: TestClient) -> None:
    shown = client.get("/models")
    missing = client.get("/models/none")

    assert shown.status_code == 200
    assert "There is no model yet" in shown.text
    assert missing.status_code == 404
    assert "here is no model &#39;none&#39;" in missing.text


@pytest.mark.usefixtures("registered")
def test_the_front_is_marked_in_the_plot_and_in_the_table(client: TestClient) -> None:
    page = client.get("/models").text

    assert lines(page) == [
        ("1", "teacher@1", "20", "yes"),  # by the speed-up of what was made of it
        ("2", "small@1", "1", "yes"),
        ("3", "bad@1", "2", "no"),
        ("–", "untimed@1", "–", "–"),
    ]
    assert (page.count('<g class="bubble best">'), page.count('<g class="bubble">')) == (2, 1)
    assert page.count('<line class="front"') == 1
    assert "quantized from teacher@1" in words(page)


@pytest.mark.usefixtures("registered")
def test_a_comparison_of_all_goes_before_what_each_was_timed_by(client: TestClient) -> None:
    made = submit(client, params={"x": 1}).json()["id"]
    measured = [{"model": "teacher@1", "accuracy": 0.91, "p50_ms": 30.0},
                {"model": "untimed@1", "accuracy": 0.93, "p50_ms": 3.0}]  # fmt: skip
    with session() as opened:
        job = opened.get_one(Job, made)
        job.state, job.finished_at, job.result = "SUCCESS", datetime.now(UTC), {"on": "test", "models": measured}
        opened.add(Artifact(digest="c" * 64, kind="comparison", size_bytes=1, manifest={}, job_id=job.id))

    page = client.get("/models").text

    assert lines(page)[:2] == [("1", "untimed@1", "3", "yes"), ("2", "teacher@1", "30", "no")]
    assert f'href="/jobs/{made}"' in page
    assert "Accuracy on test" in page


def test_a_version_tells_what_it_came_from_and_who_made_it(client: TestClient) -> None:
    made = rows.row(submit(client, params={"x": 1}).json()["id"]).id
    register("teacher", MEASURED["teacher"], by=made)
    register("small", MEASURED["small"], note="not taken into use: worse", **of_teacher())

    parent, child = client.get("/models/teacher").text, client.get("/models/small?version=1").text

    assert f'href="/jobs/{made}"' in parent
    assert "Made of it small@1" in words(parent)
    assert re.search(r"metrics accuracy dev 0\.9 Metrics", words(parent))
    assert "From quantized from teacher@1" in words(child)
    assert "not taken into use: worse" in child
    assert re.search(r'href="/artifacts/[0-9a-f]{64}"', child)
    assert client.get("/models/small?version=2").status_code == 404
    assert '<a href="/models/teacher?version=1">' in client.get(f"/jobs/{made}").text


def test_whatever_a_model_is_called_is_text(client: TestClient) -> None:
    odd = {HOSTILE: {HOSTILE: 1.0}, "dev": {"accuracy": 0.5, "p50": float("1e300")}, "compression": "none"}
    name = HOSTILE.replace("/", "")
    register(name, odd, data=HOSTILE, remark=HOSTILE, made_from={"name": HOSTILE, "version": "x"})

    for path in ("/models", f"/models/{name.replace('?', '%3F')}"):
        shown = client.get(path)
        assert shown.status_code == 200
        assert Markup.of(shown.text) == {("script", "src")}
        assert "&lt;script&gt;" in shown.text


def test_bubbles_are_within_the_plot_the_axis_is_logarithmic_and_area_is_size() -> None:
    fast, slow = Point(1, "a@1", 0.8, 1.0, 25e6), Point(2, "b@1", 0.9, 100.0, 100e6)

    drawn = plot([fast, slow])
    by_number = {each.point.number: each for each in drawn.bubbles}
    ticks = {value: x for x, value in drawn.across}

    assert by_number[2].radius == 2 * by_number[1].radius
    assert by_number[1].y > by_number[2].y  # higher is better
    assert ticks["10"] == pytest.approx((by_number[1].x + by_number[2].x) / 2, abs=0.1)
    assert all(0 < each.x < 100 and 0 < each.y < 100 for each in drawn.bubbles)
    assert [value for _, value in drawn.upwards] == ["80 %", "85 %", "90 %"]


def test_models_alike_are_plotted_in_the_middle() -> None:
    drawn = plot([Point(1, "a@1", 1.0, 5.0, 0.0), Point(2, "b@1", 1.0, 5.0, 0.0)])

    assert {(each.x, each.y) for each in drawn.bubbles} == {(56.52, 50.0)}  # of what the labels leave at the right
    assert "100 %" in [value for _, value in drawn.upwards]
    assert all(float(value.removesuffix(" %")) <= 100 for _, value in drawn.upwards)
