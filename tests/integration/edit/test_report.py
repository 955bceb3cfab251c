"""The report of a run, from rows as an evaluation leaves them."""

import json
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pytest

from broker.errors import JobError
from db.engine import session
from db.job import JobEvent
from db.residency import ModelEvent
from jobs.edit import gallery, report
from tests.integration.edit.evaluated import HOSTILE, pictures, run, store

pytestmark = pytest.mark.usefixtures("clean_db")

LIGHT = [9.0, 3.0, 6.0, "unparsable: 'fine'", "the endpoint said 500"]


class Page(HTMLParser):
    """What a page has: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_report_has_the_figures_the_pictures_and_no_markup_of_others(tmp_path: Path) -> None:
    artifact = pictures(tmp_path / "images", 4)
    found = run({"light": LIGHT, "<b>geometry": [2.0, 2.5]}, artifact)

    with session() as opened:
        short = report.write(opened, store(), found, tmp_path)

    data = json.loads((tmp_path / "report.json").read_text())
    light = data["categories"]["light"]
    assert (light["pairs"], light["scored"], light["failed"], light["unparsable"]) == (5, 3, 2, 1)
    assert (light["mean"], light["mean_failures_as_0"], light["median"]) == (6.0, 3.6, 6.0)
    assert light["mean_interval_95"][0] < 6 < light["mean_interval_95"][1]
    assert data["overall"]["standard_deviation"] == pytest.approx(2.9580399)
    assert (data["judge"]["revision"], data["judge"]["parameters"], data["seed"]) == ("abc", {"temperature": 0}, 3)
    assert short["mean"] == data["overall"]["mean"] == 4.5
    assert data["failures"][0] == {"stage": "score", "reason": "unparsable: 'fine'", "pairs": 1}

    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == [9.0, 3.0, 6.0, None, None, 2.0, 2.5]

    page = Page((tmp_path / "index.html").read_text())
    assert not {"script", "b>geometry", "link"} & {tag for tag, _ in page.tags}
    assert HOSTILE in "".join(page.text)
    assert len(page.of("img")) == 14  # original and edited of five scored and two failed pairs
    assert all((each["src"] or "").startswith("data:image/jpeg;base64,") for each in page.of("img"))
    meters = [float(each["value"] or "") for each in page.of("meter")]
    assert meters == [2.0, 2.5, 3.0, 6.0, 9.0]

    text = (tmp_path / "report.md").read_text()
    assert "s3cret" not in text + (tmp_path / "index.html").read_text() + json.dumps(data)
    assert "| light " in text
    assert "the endpoint said 500" in text


def test_a_page_has_room_for_the_worst_of_each_category_and_no_more(tmp_path: Path) -> None:
    artifact = pictures(tmp_path / "images", 4)
    found = run({"bad": [0.0, 0.1, 0.2, 0.3], "good": [9.0, 8.0, 8.5]}, artifact)
    seen = gallery.Gallery(shown=4)

    with session() as opened:
        for row in report.edit.pairs(opened, found):
            seen.add(row)

    assert [row.score for row in seen.worst()] == [0.0, 0.1, 8.0, 8.5]
    assert len(gallery.thumbnails(store(), seen.worst())) == 8


def test_images_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    found = run({"light": [1.0]}, "0" * 64)

    with session() as opened:
        report.write(opened, store(), found, tmp_path)

    page = Page((tmp_path / "index.html").read_text())
    assert page.of("img") == []
    assert page.text.count("gone from the store") == 2


def test_a_run_without_a_single_score_has_a_report_too(tmp_path: Path) -> None:
    found = run({"light": ["it was cut off"]})

    with session() as opened:
        report.write(opened, store(), found, tmp_path)

    data = json.loads((tmp_path / "report.json").read_text())
    assert (data["overall"]["mean"], data["overall"]["mean_failures_as_0"]) == (None, 0.0)
    assert "No pair has a score." in (tmp_path / "index.html").read_text()


def test_it_says_which_models_moved_and_what_the_run_survived(tmp_path: Path) -> None:
    job = UUID(int=1)
    found = run({"light": [1.0]}, jobs=[job, UUID(int=2)])
    with session() as opened:
        for model, event in (("editor", "load"), ("editor", "drop"), ("scorer", "load")):
            opened.add(ModelEvent(job_id=job, root_id=job, process=1, model=model, event=event, seconds=2, bytes=10**9))
            opened.flush()
        for cause in ("WorkerLost", "WorkerLost", "JobError"):
            opened.add(JobEvent(job_id=job, to_state="RETRY", attempt=1, cause=cause))

    with session() as opened:
        short = report.write(opened, store(), found, tmp_path)

    assert (short["loads"], short["switches"], short["load_s"]) == (2, 1, 4.0)
    text = (tmp_path / "report.md").read_text()
    assert "2 loads, 1 switch, 2.0 GB moved, 4.0 s" in text
    assert "- 2 jobs carried it on, one after the other" in text
    assert "- a worker was lost 2 times" in text


def test_a_run_that_there_is_not_is_named(tmp_path: Path) -> None:
    with session() as opened, pytest.raises(JobError, match="there is no run"):
        report.write(opened, store(), UUID(int=7), tmp_path)
