"""The pages of recommendations: a list and its reasons, what the cache says of it, and who may ask for one."""

import re
from uuid import UUID

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from db import ledger, recommend, registry, token
from db.engine import autocommit, session
from db.job import Job
from db.store import Stored
from jobs.recommend import cache
from jobs.recommend.why import Nearest, sentence, shared
from tests.integration.web.conftest import Open
from tests.integration.web.test_pages import HOSTILE, OWN, Markup
from web.pages.profile import charts
from web.settings import API

ITEMS = {
    "1": ("Alien", ["Horror", "Sci-Fi"], 1979),
    "2": ("Aliens", ["Action", "Sci-Fi"], 1986),
    "3": ("Blade Runner", ["Sci-Fi"], 1982),
    "4": ("The Thing (1982)", ["Horror", "Sci-Fi"], 1982),
    "5": ("Emma", ["Romance"], 1996),
}
HISTORY = ["1", "2", "3"]
COUNTS = {"genres": {"Sci-Fi": 3, "Horror": 1, "Action": 1}, "decade": {"1970s": 1, "1980s": 2}}


def remember(username: str = "ann", *, model: bool = True, listed: bool = True) -> None:
    """A catalogue, a user, a model and the user's list: `The Thing` before `Emma`."""
    rows = [{"item_id": item, "title": title, "features": {"genres": genres, "year": year}}
            for item, (title, genres, year) in ITEMS.items()]  # fmt: skip
    with session() as opened:
        recommend.put_items(opened, rows)
        recommend.put_popularity(opened, {"5": 7.0, "4": 2.0})
        recommend.put_profiles(
            opened, [{"username": username, "external_id": None, "item_ids": HISTORY, "profile_hash": "a"}]
        )
        if model:
            registry.record(opened, Stored("d" * 64, 10, {}), "recommend", None)
            registry.add(opened, "recommend", "d" * 64, {}, {}, None, promote_over=None)
        if listed:
            row = {"username": username, "profile_hash": "a", "features": COUNTS, "items": [["4", 3.25], ["5", 1.5]]}
            recommend.put_lists(opened, [row], model_version=1, top_k=100)


def words(page: str) -> str:
    """What of a page is read."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_a_list_says_what_it_shares_with_the_history(client: TestClient) -> None:
    remember()
    before = cache.stats()

    shown = client.get("/recommendations/ann")
    said = words(shown.text)

    assert shown.status_code == 200
    assert re.search(r"The Thing \(1982\) Horror, Sci-Fi score 3\.25", said)  # its title has the year
    assert re.search(r"Emma 1996 Romance score 1\.50", said)
    assert "genres: Sci-Fi (3 of 3); decade: 1980s (2 of 3) like Alien" not in said
    assert "genres: Sci-Fi (3 of 3); decade: 1980s (2 of 3) like Blade Runner" in said
    assert re.search(r"List fresh .* Model version 1 .* History 3 items", said)
    assert [int(each) for each in re.findall(r"</svg></td><td>(\d+)", shown.text)] == [3, 1, 1, 1, 2]
    assert cache.stats() == before  # no hit: a look at the dashboard is no reader of the cache


def test_the_page_and_the_api_give_the_same_reasons(client: TestClient) -> None:
    remember()
    with session() as opened:
        opened.get_one(recommend.UserProfile, "ann").features = COUNTS | {"year": {"1982": 2}}

    shown = words(client.get("/recommendations/ann").text)
    first, second = client.get(f"{API}/recommendations/ann", params={"why": True}).json()["items"]

    assert "genres: Sci-Fi (3 of 3); decade: 1980s (2 of 3); year: 1982 (2 of 3) like Blade Runner " in shown
    assert [f"{each['value']} {each['count']}" for each in first["why"]] == ["Sci-Fi 3", "1980s 2", "1982 2"]
    assert first["like"] == [{"item": "3", "title": "Blade Runner", "likeness": 0.75}]
    assert (second["why"], second["like"]) == ([], [])


def test_whatever_a_name_or_a_title_has_in_it_is_text(client: TestClient) -> None:
    remember(HOSTILE)
    hostile = [{"item_id": "4", "title": HOSTILE, "features": {"genres": [HOSTILE], HOSTILE: HOSTILE}}]
    with session() as opened:
        recommend.put_items(opened, hostile)

    found = client.get("/recommendations", params={"user": HOSTILE})  # goes on to the user's own page
    begun = client.get("/recommendations", params={"user": HOSTILE[:9]})
    nobody = client.get("/recommendations", params={"user": f"{HOSTILE}/?x"})

    assert [each.status_code for each in (found, begun, nobody)] == [200, 200, 200]
    assert "Compute again" in found.text
    for shown in (found, begun, nobody):
        assert Markup.of(shown.text) == {("script", "src")}
        assert "&lt;script&gt;" in shown.text


def test_a_user_is_found_by_the_beginning_of_the_name(client: TestClient) -> None:
    assert "There are no users yet" in client.get("/recommendations").text
    remember("anna%"), remember("a/b?c", model=False, listed=False)

    listed = client.get("/recommendations?user=an")
    exact = client.get("/recommendations?user=a/b?c", follow_redirects=False)

    assert re.findall(r'<li><a href="([^"]+)"><b>([^<]+)', listed.text) == [("/recommendations/anna%25", "anna%")]
    assert exact.headers["location"] == "/recommendations/a%2Fb%3Fc"
    assert '<option value="a/b?c">' in client.get("/recommendations?suggest=true&user=a/b?c").text
    assert "For a/b?c" in client.get(exact.headers["location"]).text
    assert "begins with “x”" in client.get("/recommendations?user=x").text


def test_nobody_and_whoever_has_no_model_is_shown_what_is_popular(client: TestClient) -> None:
    assert "There is nothing to recommend" in client.get("/recommendations/bob").text
    remember(model=False, listed=False)

    nobody, known = client.get("/recommendations/bob"), client.get("/recommendations/ann")

    assert (nobody.status_code, known.status_code) == (404, 200)
    assert "Nobody is known as bob" in nobody.text
    assert "Compute" not in nobody.text
    assert "What is popular 10 20 50 100 Emma 1996" in words(nobody.text)
    assert "No recommender is in use yet" in known.text
    assert "Sci-Fi 3" in words(known.text)  # counted here, where no computation has stored it


def test_a_list_that_is_not_fresh_is_computed_by_the_button_alone(client: TestClient) -> None:
    remember()
    with session() as opened:
        recommend.put_profiles(
            opened, [{"username": "ann", "external_id": None, "item_ids": ["1"], "profile_hash": "b"}]
        )

    missing = client.get("/recommendations/ann").text
    foreign = client.post("/recommendations/ann", headers={"Origin": "https://elsewhere.example"})
    with session() as opened:
        assert opened.scalars(select(Job)).all() == []
    asked = client.post("/recommendations/ann", headers=OWN, follow_redirects=False)
    made = asked.headers["location"].partition("?job=")[2]
    queued = [client.get(each).text for each in ("/recommendations/ann", asked.headers["location"])]
    with autocommit() as connection:
        claimed = ledger.claim(connection, UUID(made), "w", 60)
        assert claimed is not None
        error = {"type": "JobError", "module": "m", "message": "no such <b>", "traceback": None}
        ledger.fail(connection, claimed.id, claimed.attempt, error, permanent=True)
    failed = client.get(asked.headers["location"]).text

    assert "The history has changed since" in missing
    assert ">Compute it</button>" in missing
    assert foreign.status_code == 403
    for page in queued:
        assert "The list is being computed" in page
        assert f'href="/jobs/{made}"' in page
        assert "Compute it" not in page
    assert "It could not be computed: no such &lt;b&gt;" in failed
    assert '<a href="/recommendations/ann">ann</a>' in client.get(f"/jobs/{made}").text
    with session() as opened:
        assert opened.scalars(select(Job.params["force"].as_boolean())).all() == [True]


def test_to_look_takes_the_scope_read_and_to_compute_submit(door: Open) -> None:
    guarded = door(web_auth="on")
    remember()
    asked = [guarded.get(path, follow_redirects=False) for path in ("/recommendations", "/recommendations/ann",
                                                                    "/models", "/models/recommend")]  # fmt: skip
    with session() as opened:
        secret = token.create(opened, "looker", ["read"])
    guarded.post("/login", data={"token": secret}, headers=OWN)
    looked = guarded.get("/recommendations/ann")
    refused = guarded.post("/recommendations/ann", headers=OWN)
    guarded.post("/logout", headers=OWN)

    assert [(each.status_code, each.headers["location"].partition("?")[0]) for each in asked] == [(303, "/login")] * 4
    assert looked.status_code == 200
    assert "Compute" not in looked.text
    assert refused.status_code == 403


def test_a_profile_is_charted_where_something_repeats() -> None:
    counts = {"year": {"1986": 2}, "decade": {"1990s": 1, "1980s": 2}, "studio": {"A": 1, "B": 1},
              "voice_actors": {"V": 2}, "adult": {"false": 9}, "genres": {str(n): n for n in range(1, 13)}}  # fmt: skip

    found = charts(counts, of=12)

    assert [(each.name, each.more) for each in found] == [("genres", 2), ("decade", 0), ("voice actors", 0)]
    assert [(bar.value, bar.count) for bar in found[1].bars] == [("1980s", 2), ("1990s", 1)]
    assert (found[0].bars[0].length, found[0].bars[-1].share) == (1.0, pytest.approx(3 / 12))


def test_a_mark_that_no_item_has_is_no_reason() -> None:
    counts = {"adult": {"false": 9}, "voice_actors": {"V": 3}}

    found = shared({"adult": False, "voice_actors": ["V"]}, counts, of=9)

    assert sentence(found) == "voice actors: V (3 of 9)"


def test_the_nearest_of_a_history_have_most_in_common_the_newest_first() -> None:
    history = [("old", {"genres": ["A", "B"]}), ("new", {"genres": ["B", "A"]}), ("part", {"genres": ["A"]}),
               ("other", {"genres": ["C"]}), ("bare", {})]  # fmt: skip

    near = Nearest(history)

    assert near.of({"genres": ["A", "B"]}, shown=3) == [("new", 1.0), ("old", 1.0), ("part", 0.5)]
    assert near.of({}) == []
