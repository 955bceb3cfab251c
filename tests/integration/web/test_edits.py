"""The pages of editors' evaluations: the list of runs, and a run's gallery with its pictures and its failures."""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from db.edit import EditPair, EditRun
from db.engine import session
from tests.integration.edit import evaluated
from tests.integration.web.test_jobs import submit
from tests.integration.web.test_pages import HOSTILE, Markup


@pytest.fixture
def pictures(client: TestClient, tmp_path: Path) -> Iterator[str]:
    digest = evaluated.pictures(tmp_path / "pictures", 4)
    yield digest
    evaluated.store().delete(digest)


def change(run: UUID, **values: object) -> None:
    with session() as opened:
        opened.execute(update(EditRun).where(EditRun.id == run).values(**values))


def scores(page: str) -> list[str]:
    return re.findall(r'class="score"><b>([^<]+)</b>', page)


def test_no_run_is_a_page_that_says_how_to_make_one(client: TestClient) -> None:
    shown = client.get("/edits")

    assert shown.status_code == 200
    assert "gristmill edit sample" in shown.text
    assert client.get("/edits/nothing").status_code == 404


def test_runs_are_listed_with_their_sums(client: TestClient) -> None:
    job = submit(client, params={"x": 1}).json()["id"]
    going = evaluated.run({"light": [2.0, 4.0, "unparsable"]}, name="going")
    evaluated.run({}, name="empty")
    change(going, job_id=UUID(job))

    shown = client.get("/edits").text

    assert re.findall(r'<a href="/edits/[^"]+">(\w+)</a>', shown) == ["empty", "going"]
    row = shown.partition(">going<")[2].partition("</tr>")[0]
    assert "running" in row
    assert re.findall(r"<td[^>]*>([\d.]+)</td>", row) == ["3", "1", "3.00"]
    assert client.get("/edits?page=9").status_code == 200


def test_a_gallery_has_pictures_instructions_and_scores_the_worst_first(client: TestClient, pictures: str) -> None:
    run = evaluated.run({"light": [9.0, 3.5], "text": [7.25, "unparsable: no score"]}, pictures)

    shown = client.get(f"/edits/{run}").text
    images = re.findall(r'<img src="([^"]+)" width="48" height="32" loading="lazy"[^>]+alt="([^"]+)"', shown)
    picture = client.get(images[0][0])
    part = client.get(images[0][0], headers={"Range": "bytes=0-7"})

    assert scores(shown) == ["3.50", "7.25", "9.00"]
    assert images[0][1] == "Original of light lig-1"
    assert len(images) == 8
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")
    assert "failed at score: unparsable: no score" in shown
    assert Markup.of(shown) == {("script", "src"), ("img", "src")}
    assert "&lt;script&gt;" in shown


def test_a_gallery_shows_the_small_picture_and_links_the_whole(client: TestClient, pictures: str) -> None:
    run = evaluated.run({"light": [9.0]}, pictures)
    place = {"artifact": pictures, "file": "0.png", "small": "1.png", "width": 48, "height": 32}
    with session() as opened:
        opened.execute(update(EditPair).where(EditPair.run_id == run).values(original=place))

    shown = client.get(f"/edits/{run}").text

    assert f'<a href="/artifacts/{pictures}/0.png"><img src="/artifacts/{pictures}/1.png" width="48"' in shown


def test_a_gallery_is_filtered_ordered_and_paged(client: TestClient) -> None:
    run = evaluated.run({"light": [float(n % 10) for n in range(25)], "text": [7.0, "no"]}, name="many")

    texts = client.get(f"/edits/{run}", params={"category": "text", "order": "benchmark"}).text
    best = client.get(f"/edits/{run}?order=best&show=scored").text
    after = re.search(r'rel="next" href="([^"]+)"', best)
    assert after is not None
    rest = client.get(after[1].replace("&amp;", "&")).text

    assert scores(texts) == ["7.00"]
    assert "failed at" in texts
    assert (len(scores(best)), len(scores(rest))) == (24, 2)
    assert scores(best)[0] == "9.00"
    assert scores(rest) == ["0.00", "0.00"]
    assert "There is no page 9" in client.get(f"/edits/{run}?page=9").text
    assert "No pair is like this" in client.get(f"/edits/{run}?show=open").text
    assert [client.get(f"/edits/{run}?{bad}").status_code for bad in ("show=x", "order=x", "page=0", "category=x")] == [
        422, 422, 422, 404
    ]  # fmt: skip


def test_what_is_not_there_has_its_reason_in_place_of_the_picture(client: TestClient, pictures: str) -> None:
    job = submit(client, params={"x": 1}).json()["id"]
    run = evaluated.run({"light": [5.0, 6.0, 7.0, 8.0]}, pictures)
    change(run, job_id=UUID(job), jobs=[job])
    with session() as opened:
        waiting, unread, gone, foreign = opened.query(EditPair).order_by(EditPair.position)
        waiting.state, waiting.score, waiting.edited = "waiting", None, None
        unread.state, unread.failed_at, unread.error = "failed", "intake", HOSTILE
        unread.original = unread.edited = None
        gone.edited = {**gone.edited, "artifact": "f" * 64}
        foreign.original = {**foreign.original, "file": "3.tif"}

    shown = client.get(f"/edits/{run}?order=benchmark").text

    assert re.findall(r'class="gone">(?:<a[^>]+>)?([^<]+)<', shown) == [
        "not edited yet", "could not be read", "not edited", "gone from the store", "3.tif"
    ]  # fmt: skip
    assert shown.count("<img ") == 3
    assert "3 of 4 pairs so far" in shown
    assert f'href="/edits/{run}"' in client.get(f"/jobs/{job}").text
    assert "failed at intake: &lt;script&gt;" in shown


def test_a_run_that_has_come_to_no_end_says_how_it_goes_on(client: TestClient) -> None:
    evaluated.run({}, name="stopped")

    shown = client.get("/edits/stopped").text

    assert "carries it on" in shown
    assert "No pair was taken in" in shown
