"""Which version of a model is in use, changed by a button: what is told before, and when nothing changes."""

import re

import pytest
from starlette.testclient import TestClient

from db import measured, recommend, registry, token
from db.engine import session
from tests.integration.web.conftest import Open
from tests.integration.web.test_pages import OWN
from tests.integration.web.test_recommended import remember, words
from tests.integration.web.test_registry_pages import register


def in_use(name: str = "small") -> int:
    with session() as opened:
        found = registry.current(opened, name)
        assert found is not None
        return found.version


def button(page: str, label: str) -> str:
    """The address behind it."""
    found = re.search(rf'<a class="button" href="([^"]+)">{label}</a>', page)
    assert found is not None
    return found[1]


@pytest.fixture
def two(client: TestClient) -> None:
    """Versions 1, which is in use, and 2 of a classifier."""
    for accuracy in (0.8, 0.7):
        register("small", {"dev": {"accuracy": accuracy}})


@pytest.mark.usefixtures("two")
def test_a_version_is_put_into_use_and_taken_back(client: TestClient) -> None:
    there = button(client.get("/models/small?version=2").text, "Put into use")
    told = words(client.get(there).text)
    done = client.post(there, data={"over": "1"}, headers=OWN, follow_redirects=False)

    assert re.search(r"in use version 1 .* dev accuracy 0\.8000 .* then version 2 .* dev accuracy 0\.7000", told)
    assert "Version 1 goes out of use. It stays in the registry" in told
    assert (done.status_code, done.headers["location"]) == (303, "/models/small?version=2")
    assert in_use() == 2
    assert client.get(there, follow_redirects=False).headers["location"] == "/models/small?version=2"

    back = button(client.get("/models/small").text, "Roll back to version 1")
    client.post(back, data={"over": "2"}, headers=OWN)

    assert in_use() == 1
    assert 'class="button"' not in client.get("/models/small").text  # nothing was in use before it


@pytest.mark.usefixtures("two")
def test_nothing_changes_when_another_version_came_into_use_since_one_looked(client: TestClient) -> None:
    refused = [client.post("/models/small/2/promote", data=sent, headers=OWN) for sent in ({"over": "7"}, {})]

    assert [each.status_code for each in refused] == [409, 409]
    assert "Version 1 of &#39;small&#39; is in use now, not what was when you looked" in refused[0].text
    assert in_use() == 1
    for path in ("/models/small/3/promote", "/models/none/1/promote", "/models/small/0/promote"):
        assert client.get(path).status_code in (404, 422)
    assert client.post("/models/small/3/promote", data={"over": "1"}, headers=OWN).status_code == 404
    assert in_use() == 1


def test_a_recommender_says_whose_lists_are_there(client: TestClient) -> None:
    for user in ("ann", "bob", "eve"):
        remember(user, model=user == "ann", listed=False)
    with session() as opened:
        registry.add(opened, recommend.MODEL, "d" * 64, {}, {}, None, promote_over=-1)
        opened.flush()
        for user, hash_ in (("ann", "a"), ("bob", "of an older history")):
            row = {"username": user, "features": {}, "items": [["4", 1.0]]}
            recommend.put_lists(opened, [row | {"profile_hash": "a"}], model_version=2, top_k=100)
            if hash_ != "a":
                recommend.put_profiles(opened, [row | {"external_id": None, "item_ids": ["1"], "profile_hash": hash_}])

    told = words(client.get("/models/recommend/2/promote").text)

    assert "1 of 3 users have a list of version 2 that fits their history" in told
    assert "The other 2 are without one until a worker has computed it" in told
    client.post("/models/recommend/2/promote", data={"over": "1"}, headers=OWN)
    assert in_use(recommend.MODEL) == 2


@pytest.mark.usefixtures("two")
def test_only_an_administrator_has_the_button_and_only_on_our_pages(door: Open, client: TestClient) -> None:
    guarded, place = door(web_auth="on"), "/models/small/2/promote"
    with session() as opened:
        made = {scope: token.create(opened, scope, ["read", scope]) for scope in ("submit", "admin")}

    guarded.post("/login", data={"token": made["submit"]}, headers=OWN)
    shown = guarded.get("/models/small?version=2").text
    refused = [guarded.get(place), guarded.post(place, data={"over": "1"}, headers=OWN)]
    guarded.post("/login", data={"token": made["admin"]}, headers=OWN)
    foreign = guarded.post(place, data={"over": "1"}, headers={"Origin": "https://elsewhere.example"})
    unchanged = in_use()
    guarded.post(place, data={"over": "1"}, headers=OWN)
    guarded.post("/logout", headers=OWN)

    assert "/promote" not in shown
    assert "A token with the scope admin puts another version into use" in words(shown)
    assert [each.status_code for each in (*refused, foreign)] == [403, 403, 403]
    assert "has no scope &#39;admin&#39;" in refused[0].text
    assert (unchanged, in_use()) == (1, 2)


def test_a_model_s_page_asks_for_its_own_versions_and_what_was_made_of_it(client: TestClient) -> None:
    origin = {"name": "small", "version": 1}
    register("small", {})
    register("tiny", {}, quantized_from=origin)
    register("tiny", {}, teacher={"name": "small", "version": 2}, parent=origin | {"digest": "x"})
    register("else", {}, quantized_from={"name": "smaller", "version": 1}, note="small", remark="1")

    with session() as opened:
        own, all_of_them = measured.versions(opened, "small"), measured.versions(opened)
        made = measured.made_of(opened, "small", 1)

    assert [each.label for each in own] == ["small@1"]
    assert [each.label for each in all_of_them] == ["else@1", "small@1", "tiny@2", "tiny@1"]
    assert made == [("tiny", 2), ("tiny", 1)]
