"""The dashboard in a real browser, over a real worker: what a person sees and does there.

`--screenshots FOLDER` keeps a picture of every page, light on a desk and dark on a phone.
"""

import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import uvicorn

from db import token
from db.engine import session
from examples import progress
from tests import rows
from tests.integration.edit import evaluated
from tests.integration.web.test_recommended import remember
from tests.integration.web.test_registry_pages import MEASURED, of_teacher, register
from tests.jobs import echo, fail, step
from tests.processes import Process, start_worker

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'gristmill[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install 'gristmill[dev]'")

from playwright.sync_api import Browser, ConsoleMessage, Page, expect  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium"),
    pytest.mark.timeout(240),
]

# Of axe's rules: names, roles, order and the like are the same however it looks; what can be read is not.
LOOKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "light on a desk": ("light", {"width": 1280, "height": 900}, {}),
    "dark on a phone": ("dark", {"width": 360, "height": 740}, {"runOnly": ["color-contrast"]}),
}
# Only what is wrong is written down, with where it is.
CHECK = "rules => axe.run({...rules, resultTypes: ['violations']}).then(found => found.violations)"
Open = Callable[..., Page]
expect.set_options(timeout=30_000)


@contextmanager
def web(services: Path, **settings: str) -> Iterator[str]:
    """The address of a web process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    settings |= {"GRISTMILL_JOBS": "tests.jobs", "GRISTMILL_LEASE_SECONDS": "8", "GRISTMILL_WEB_PORT": port}
    process = Process([sys.executable, "-m", "web"], services, **settings)
    try:
        address = process.wait_for("web: http").split()[-1]
        process.wait_for("web_ready")
        yield address
    finally:
        process.stop()


@pytest.fixture(scope="module")
def site(services: Path) -> Iterator[str]:
    """The address of a web process with a worker behind it, over an empty ledger."""
    rows.wipe()
    worker = start_worker(services, concurrency=1, GRISTMILL_JOBS="tests.jobs", GRISTMILL_LEASE_SECONDS="8")
    try:
        with web(services) as address:
            yield address
    finally:
        worker.stop()
        rows.wipe()


@pytest.fixture(scope="module")
def guarded(site: str, services: Path) -> Iterator[str]:
    """The address of another one, that asks for tokens."""
    with web(services, GRISTMILL_WEB_AUTH="on") as address:
        yield address


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Path]:
    """A file that a job waits for; it is there at the latest when the test is over."""
    yield tmp_path / "go"
    (tmp_path / "go").touch()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests; each has a profile of its own in it."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield started
        started.close()


@pytest.fixture
def open_page(site: str, browser: Browser) -> Iterator[Open]:
    """A page of the site, or of another one, in a new profile; in the end no page may have complained of anything."""
    complaints: list[str] = []
    contexts = []

    def opened(path: str, base: str = site, **look: object) -> Page:
        def hear(said: ConsoleMessage) -> None:
            here = said.page.url if said.page else ""
            # A browser calls it an error, too, when a page itself is answered with a status of one.
            if said.type == "error" and here.startswith(base) and said.location["url"] != here:
                complaints.append(f"{here}: {said.text}")

        context = browser.new_context(base_url=base, **look)
        contexts.append(context)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def badge(page: Page) -> object:
    return expect(page.locator("h1 .badge"))


def moves(page: Page, times: int = 2) -> list[str]:
    """What is told of a job's progress, whenever that changes, so many times; without the page being loaded again."""
    page.evaluate("window.same = true")
    told = page.locator("#told")
    expect(told).to_have_text(re.compile("step"))
    seen = [told.inner_text()]
    for _ in range(times):
        expect(told).not_to_have_text(seen[-1])
        seen.append(told.inner_text())
    assert page.evaluate("window.same")
    return seen


def test_a_job_is_submitted_by_a_form_and_followed_to_its_result(open_page: Open, go: Path) -> None:
    page = open_page("/")
    page.get_by_role("link", name="New job").click()
    page.get_by_role("link", name="tests.step").click()
    page.get_by_label("go").fill(str(go))
    page.get_by_role("button", name="Submit").click()

    badge(page).to_have_text("running")
    seen = moves(page)
    bar = page.get_by_role("progressbar")
    far = float(bar.get_attribute("value") or 0)
    go.touch()
    badge(page).to_have_text("done")

    assert len(set(seen)) == 3
    assert 0 < far < 1
    assert page.evaluate("window.same")  # all of it without the page being loaded again
    expect(page.locator("section", has=page.get_by_role("heading", name="Result"))).to_contain_text("gone")


def test_what_a_form_refuses_stays_as_it_was_typed(open_page: Open) -> None:
    page = open_page("/new/tests.total")
    field = page.get_by_label("numbers")
    field.fill("1\n2\nthree")
    page.get_by_role("button", name="Submit").click()

    expect(page.get_by_role("alert")).to_contain_text("Nothing was submitted")
    expect(field).to_have_value("1\n2\nthree")
    expect(field).to_have_accessible_description(re.compile('numbers.2="three": input should be a valid integer'))
    field.fill("1\n2\n3")
    page.get_by_role("button", name="Submit").click()
    badge(page).to_have_text("done")


def test_a_running_job_is_cancelled_by_its_button(open_page: Open, go: Path) -> None:
    job = step.submit(go=str(go)).id
    page = open_page(f"/jobs/{job}")
    badge(page).to_have_text("running")

    page.get_by_role("button", name="Cancel").click()

    badge(page).to_have_text("cancelled")
    assert rows.row(job).state == "REVOKED"


def test_a_failed_job_shows_its_traceback_and_is_retried_by_its_button(open_page: Open) -> None:
    job = fail.submit(permanent=True).id
    page = open_page(f"/jobs/{job}")
    badge(page).to_have_text("failed")
    expect(page.locator(".banner")).to_have_text("JobError: this can never work: do something else")
    traceback = page.locator("details", has_text="Traceback")
    expect(traceback.locator("pre")).not_to_be_visible()
    traceback.locator("summary").click()
    expect(traceback.locator("pre")).to_contain_text("in fail")

    page.get_by_role("button", name="Retry as a new job").click()
    page.wait_for_url(lambda url: "/jobs/" in url and job not in url)
    badge(page).to_have_text("failed")

    page.get_by_role("link", name="Change and run").click()
    expect(page.get_by_label("permanent")).to_be_checked()
    page.get_by_label("permanent").uncheck()
    page.get_by_label("until_attempt").fill("1")
    page.get_by_role("button", name="Submit").click()
    badge(page).to_have_text("done")


def test_all_of_it_works_by_the_keyboard(open_page: Open) -> None:
    page = open_page("/")

    def tab_to(name: str) -> None:
        """Press Tab until this has the focus, which must be seen wherever it is, and go down the page only."""
        place = -1
        for _ in range(150):
            page.keyboard.press("Tab")
            said, now, seen = page.evaluate("""() => {
                const at = document.activeElement, outline = getComputedStyle(at);
                const all = [...document.querySelectorAll("*")];
                const label = at.labels?.[0] ?? at;
                return [label.textContent.trim(), all.indexOf(at), outline.outlineStyle !== "none"];
            }""")
            assert seen, f"{said!r} has the focus and does not show it"
            assert now > place
            place = now
            if said.partition(" ")[0] == name or said == name:
                return
        raise AssertionError(f"{name!r} never had the focus")

    tab_to("Skip to content")
    tab_to("New job")
    page.keyboard.press("Enter")
    page.wait_for_url("**/new")
    tab_to("tests.add")
    page.keyboard.press("Enter")
    page.wait_for_url("**/new/tests.add")
    tab_to("x")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    badge(page).to_have_text("done")
    tab_to("Run")
    page.keyboard.press("Enter")
    badge(page).to_have_text("done")


def test_without_a_script_it_works_all_the_same(open_page: Open) -> None:
    page = open_page("/new/tests.echo", java_script_enabled=False)
    page.get_by_label("value").fill("plain text")
    page.get_by_role("button", name="Submit").click()

    badge(page).to_have_text("done")  # the page loads itself again
    expect(page.locator("pre").first).to_have_text('"plain text"')


def test_another_version_of_a_model_is_put_into_use_without_a_script_too(open_page: Open) -> None:
    for _ in range(2):
        register("turned", {})
    page = open_page("/models/turned?version=2", java_script_enabled=False)
    page.get_by_role("link", name="Put into use").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Put turned version 2 into use?")
    page.get_by_role("button", name="Put version 2 into use").click()

    expect(page.get_by_role("heading", level=2).first).to_have_text("Version 2 in use")
    expect(page.get_by_role("link", name="Roll back to version 1")).to_be_visible()


def test_the_example_shows_progress(open_page: Open, site: str, go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DOOR", httpx2.AsyncClient(base_url=f"{site}/api/v1", timeout=60))
    monkeypatch.setattr(progress, "JOB", {"kind": "tests.step", "params": {"go": str(go)}})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(progress.app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            page = open_page(f"http://127.0.0.1:{listening.getsockname()[1]}/")
            page.get_by_role("button").click()
            bar, said = page.get_by_role("progressbar"), page.get_by_role("status")
            expect(said).to_have_text("STARTED")
            for _ in range(2):
                expect(bar).not_to_have_js_property("value", bar.evaluate("bar => bar.value"))
            go.touch()
            expect(said).to_have_text("SUCCESS")
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="module")
def filled(site: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pages by a name, once there is something on each."""
    remember()
    for name, metrics in MEASURED.items():
        register(name, metrics, **(of_teacher() if "compression" in metrics else {}))
    register("teacher", {"dev": {"accuracy": 0.89}})
    shown = evaluated.pictures(tmp_path_factory.mktemp("edit") / "pictures", 4)
    run = evaluated.run({"light": [9.0, 3.5, 6.0], "text": [7.25, "unparsable: no score"]}, shown)
    done, failed = echo.submit(value={"a": [1, 2]}), fail.submit(permanent=True)
    done.get(timeout=30)
    failed.get(timeout=30, propagate=False)
    return {
        "overview": "/", "jobs": "/jobs", "done": f"/jobs/{done.id}", "failed": f"/jobs/{failed.id}", "kinds": "/new",
        "new": "/new/recommend.pretrain_user", "recommendations": "/recommendations",
        "recommended": "/recommendations/ann", "nobody": "/recommendations/nobody", "models": "/models",
        "model": "/models/teacher", "promote": "/models/teacher/2/promote", "edits": "/edits", "edit": f"/edits/{run}",
        "classify": "/classify", "not found": "/nothing",
    }  # fmt: skip


def log_in(page: Page, *scopes: str) -> None:
    """With a new token of these scopes."""
    with session() as opened:
        secret = token.create(opened, f"{'+'.join(scopes)} {uuid4()}", scopes)
    page.get_by_label("Token").fill(secret)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def test_a_token_opens_the_page_that_was_asked_for_until_one_logs_out(open_page: Open, guarded: str, go: Path) -> None:
    place = f"/jobs/{step.submit(go=str(go)).id}"
    page = open_page(place, guarded)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()

    page.get_by_label("Token").fill("gm_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text(
        "This token is not known, was revoked or has expired: gristmill tokens create NAME makes one"
    )
    expect(page.get_by_label("Token")).to_have_value("")
    log_in(page, "submit", "read")

    expect(page).to_have_url(f"{guarded}{place}")
    badge(page).to_have_text("running")
    moves(page, 1)  # the stream of its events has the cookie, too
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Cancel").click()
    badge(page).to_have_text("cancelled")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto("/jobs")
    expect(page).to_have_url(f"{guarded}/login?next=%2Fjobs")


def test_no_button_is_shown_to_whom_it_would_refuse(
    open_page: Open, guarded: str, filled: dict[str, str], go: Path
) -> None:
    filled = {"running": f"/jobs/{step.submit(go=str(go)).id}", **filled}
    buttons: dict[str, set[str]] = {}
    for scope in ("read", "submit", "admin"):
        page = open_page("/login", guarded)
        log_in(page, "read", scope)
        for path in filled.values():
            page.goto(path)
            shown = page.locator("main form[method=post] button:enabled").all_inner_texts()
            buttons.setdefault(scope, set()).update(shown)

    work = {"Cancel", "Run again as a new job", "Retry as a new job", "Submit", "Compute again", "Classify"}
    assert buttons == {"read": set(), "submit": work, "admin": work | {"Put version 2 into use"}}


@pytest.mark.parametrize(("origin", "sends_the_cookie"), [
    ("http://127.0.0.1:9", True),  # another port is the same site to a browser
    ("http://localhost:9", False),
])  # fmt: skip
def test_a_form_on_a_page_of_another_origin_changes_nothing(
    open_page: Open, guarded: str, origin: str, sends_the_cookie: bool
) -> None:
    job = echo.apply_async(kwargs={"value": 1}, countdown=3600).id
    page = open_page("/login", guarded)
    log_in(page, "admin")
    trap = f'<form method="post" action="{guarded}/jobs/{job}/cancel"><button>Win</button></form>'
    page.route(f"{origin}/", lambda route: route.fulfill(content_type="text/html", body=trap))
    page.goto(f"{origin}/")

    with page.expect_request(f"{guarded}/jobs/*/cancel") as sent:
        page.get_by_role("button", name="Win").click()

    expect(page.locator("main")).to_contain_text("This form was sent from another site: nothing was changed")
    assert ("cookie" in sent.value.all_headers()) == sends_the_cookie
    assert rows.row(job).state == "PENDING"


def test_every_page_is_readable_and_fits(
    open_page: Open, filled: dict[str, str], guarded: str, request: pytest.FixtureRequest, go: Path
) -> None:
    running = f"/jobs/{step.submit(go=str(go)).id}"
    page = open_page(running)
    badge(page).to_have_text("running")
    moves(page, 1)
    checker, wrong = axe.Axe(), {}

    for name, path in {"running": running, "login": f"{guarded}/login", **filled}.items():
        page.goto(path)
        page.evaluate(checker.axe_script)
        for look, (scheme, screen, rules) in LOOKS.items():
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size(screen)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wrong[name, look] = "it is wider than the screen"
            if found := page.evaluate(CHECK, rules):
                wrong[name, look] = axe.AxeResults({"violations": found}).generate_report()
            if folder := request.config.getoption("--screenshots"):
                page.screenshot(path=Path(folder) / f"{name}, {look}.png", full_page=True)

    assert not wrong, "\n".join(f"{' '.join(where)}: {what}" for where, what in wrong.items())
