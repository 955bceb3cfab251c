"""The dashboard's pages, without a worker: what they show, what they refuse, and that they never trust a text."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from db import token
from db.engine import session
from db.job import Job, JobEvent
from tests import rows
from tests.integration.web.conftest import Open
from tests.integration.web.test_jobs import submit
from web.pages import overview

OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8004"}
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    overview.lately.forget()


class Markup(HTMLParser):
    """What of a page could run, or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if tag in ("script", "style", "img", "iframe", "object"):
            self.found.add((tag, names[0] if names else ""))
        self.found |= {(tag, name) for name in names if name == "style" or name.startswith("on")}

    @classmethod
    def of(cls, text: str) -> set[tuple[str, str]]:
        parser = cls()
        parser.feed(text)
        return parser.found


def fail(job_id: str, message: str, traceback: str = "") -> None:
    """As a worker would have left it."""
    now = datetime.now(UTC)
    with session() as opened:
        found = opened.get_one(Job, job_id)
        found.state, found.finished_at, found.started_at, found.worker = "FAILURE", now, now, "cpu@here"
        found.error = {"type": "ValueError", "message": message, "traceback": traceback}


def test_an_empty_ledger_has_pages_too(client: TestClient) -> None:
    front, listed = client.get("/"), client.get("/jobs")

    assert front.status_code == listed.status_code == 200
    assert "There is nothing to do" in front.text
    assert "No worker has run anything lately" in front.text
    assert "There are no jobs yet" in listed.text
    assert "No job is like this" in client.get("/jobs?state=FAILURE").text


def test_the_overview_counts_what_waits_and_what_ended(client: TestClient) -> None:
    ended, late = (submit(client, params={"x": n}).json()["id"] for n in (1, 2))
    submit(client, params={"x": 3}), submit(client, "tests.nothing")
    fail(ended, "no")
    with session() as opened:
        before = datetime.now(UTC) - timedelta(hours=3)
        opened.add(JobEvent(job_id=late, at=before, from_state="STARTED", to_state="SUCCESS", attempt=1, worker="w1"))

    shown = client.get("/").text
    hour = client.get("/?hours=1").text

    assert re.findall(r"<b>(\d+)</b> (\w+)", shown) == [
        ("3", "queued"),
        ("0", "running"),
        ("1", "done"),
        ("1", "failed"),
    ]
    assert re.findall(r"<b>(\d+)</b> done", hour) == ["0"]
    assert (shown.count('<rect class="done"'), shown.count('<rect class="failed"')) == (1, 1)
    assert '<th scope="row">w1</th>' in shown
    assert "w1" not in hour


def test_a_worker_that_renews_no_lease_is_named_with_when_its_job_goes_on(client: TestClient) -> None:
    made, well = (submit(client, params={"x": n}).json()["id"] for n in (1, 2))
    now = datetime.now(UTC)
    with session() as opened:
        for job, worker, left_s in ((made, "gpu@dead", 18), (well, "cpu@well", 29)):
            found = opened.get_one(Job, job)
            found.state, found.worker, found.started_at, found.attempt = "STARTED", worker, now, 1
            found.lease_until, found.progress = now + timedelta(seconds=left_s), {"done": 5, "total": 10}
        gone = JobEvent(job_id=well, at=now - timedelta(minutes=5), from_state="STARTED", to_state="RETRY", attempt=1,
                        worker="cpu@old")  # fmt: skip
        opened.add(gone)

    front, page, other = (client.get(path).text for path in ("/", f"/jobs/{made}", f"/jobs/{well}"))

    assert re.search(r"gpu@dead has not been heard of for 1\d s", front)
    assert '<td>2</td><td class="minor">1</td>' in front  # running, and busy workers of their queue
    assert re.search(r'cpu@<wbr>well</th><td>1</td>.*<td class="when">now</td>', front)
    old = r"cpu@<wbr>old</th><td>0</td><td[^>]*>1</td><td[^>]*>1</td><td[^>]*>5 min ago, idle or gone</td>"
    assert re.search(old, front)
    assert re.search(r"gpu@dead has not been heard of for 1\d s: .* when its lease ends, in 1\d s\.", page)
    assert " left" not in page
    assert "not been heard of" not in other


def test_whatever_a_caller_or_a_job_wrote_is_text(client: TestClient) -> None:
    made = submit(client, "tests.echo", params={"value": HOSTILE}, owner=HOSTILE).json()["id"]
    fail(made, HOSTILE, f"Traceback: {HOSTILE}")

    for path in ("/", "/jobs", f"/jobs/{made}", "/jobs/x", "/login"):
        for shown in (client.get(path), client.get(path, params={"owner": HOSTILE, "kind": HOSTILE, "next": HOSTILE})):
            assert shown.headers["content-type"].startswith("text/html")
            assert "unsafe" not in shown.headers["content-security-policy"]
            assert Markup.of(shown.text) == {("script", "src")}
    shown = client.get(f"/jobs/{made}").text
    assert "&lt;script&gt;" in shown
    assert "<details><summary>Traceback</summary>" in shown


def test_the_list_is_filtered_and_paged_by_links(client: TestClient) -> None:
    jobs = [{"kind": "tests.add", "params": {"x": n}} for n in range(52)]
    client.post("/api/v1/jobs/many", json={"jobs": [*jobs, {"kind": "tests.nothing", "owner": "ann"}]})

    first = client.get("/jobs?kind=tests.add&state=&owner=&queue=")
    older = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert older is not None
    second = client.get(older[1].replace("&amp;", "&"))

    assert (first.text.count('<tr><th scope="row">'), second.text.count('<tr><th scope="row">')) == (50, 2)
    assert 'rel="next"' not in second.text
    assert "<option selected>tests.add</option>" in second.text
    assert client.get("/jobs?owner=ann").text.count('<tr><th scope="row">') == 1
    assert client.get("/jobs?state=nonsense").status_code == 422
    assert client.get("/jobs?parent=nonsense").status_code == 422


def test_buttons_cancel_and_retry(client: TestClient) -> None:
    made = submit(client, params={"x": 7}).json()["id"]

    cancelled = client.post(f"/jobs/{made}/cancel", headers=OWN, follow_redirects=False)
    again = client.post(f"/jobs/{made}/retry", headers=OWN, follow_redirects=False)
    twice = client.post(f"/jobs/{made}/cancel", headers=OWN)

    assert (cancelled.status_code, cancelled.headers["location"]) == (303, f"/jobs/{made}")
    assert rows.row(made).state == "REVOKED"
    assert again.status_code == 303
    assert rows.row(again.headers["location"].removeprefix("/jobs/")).params == {"x": 7, "y": 1}
    assert twice.status_code == 409
    assert "there is nothing to cancel" in twice.text
    assert "as a new job" in client.get(f"/jobs/{made}").text


@pytest.mark.parametrize("headers", [
    {},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:9999"},
    {"Sec-Fetch-Site": "none"},
])  # fmt: skip
def test_a_form_of_another_site_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    made = submit(client, params={"x": 7}).json()["id"]

    assert client.post(f"/jobs/{made}/cancel", headers=headers).status_code == 403
    assert rows.row(made).state == "PENDING"


def test_a_token_is_exchanged_for_a_cookie(door: Open) -> None:
    guarded = door(web_auth="on")
    with session() as opened:
        secret, weak = token.create(opened, "admin", ["admin"]), token.create(opened, "looker", ["read"])
    made = submit(guarded, params={"x": 1}, headers={"Authorization": f"Bearer {secret}"}).json()["id"]

    asked = guarded.get(f"/jobs/{made}?a=b", follow_redirects=False)
    wrong = guarded.post("/login", data={"token": "gm_wrong"}, headers=OWN)
    foreign = guarded.post("/login", data={"token": secret}, headers={"Origin": "https://elsewhere.example"})
    away = guarded.post("/login?next=//elsewhere.example", data={"token": weak}, headers=OWN, follow_redirects=False)
    looked = guarded.get(f"/jobs/{made}")
    refused = guarded.post(f"/jobs/{made}/cancel", headers=OWN)
    guarded.post("/login", data={"token": secret}, headers=OWN)
    cancelled = guarded.post(f"/jobs/{made}/cancel", headers=OWN, follow_redirects=False)
    guarded.post("/logout", headers=OWN)

    assert (asked.status_code, asked.headers["location"]) == (303, f"/login?next=%2Fjobs%2F{made}%3Fa%3Db")
    assert (wrong.status_code, foreign.status_code) == (401, 403)
    assert "gm_wrong" not in wrong.text
    assert (away.status_code, away.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in away.headers["set-cookie"].split(";")}
    assert looked.status_code == 200
    assert "/cancel" not in looked.text
    assert refused.status_code == 403
    assert cancelled.status_code == 303
    assert rows.row(made).state == "REVOKED"
    assert guarded.get("/jobs", follow_redirects=False).status_code == 303
