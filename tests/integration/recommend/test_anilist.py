"""Importing users of AniList: rows, what is known, the cache that all workers share, and attempts that go on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from broker.cache import PACE, redis_client
from broker.errors import JobError
from broker.pace import Pace
from db import source_page
from db.engine import autocommit, session
from db.job import Job as Row
from db.recommend import CatalogueItem, UserProfile
from jobs.recommend.sources.anilist.client import Unreachable
from jobs.recommend.tasks import import_anilist
from jobs.upkeep.tasks import clean_cache
from tests.anilist import AniList, medium
from tests.integration.recommend.running import claim, drain, once, run


def test_histories_items_and_who_could_not_be_imported(server: AniList) -> None:
    result = run(import_anilist, usernames=["Spike", "faye", "FAYE", "shy", "nobody", "ed"])

    assert result["users"] == [
        {"username": "Spike", "items": 3, "known": 0, "skipped": {"planning": 1}},
        {"username": "Faye", "items": 2, "known": 0, "skipped": {}},
    ]
    assert [(each["username"], each["reason"].split(":")[0]) for each in result["failed"]] == [
        ("shy", "the list of 'shy' is private"),
        ("nobody", "AniList shows no user 'nobody'"),
        ("ed", "no items to take (the list is empty)"),
    ]
    assert (result["items"], result["known"], result["changed_items"]) == (4, "0 of 4 ids known to the catalogue", 3)
    # Spike's two chunks, one each of the others, and the media in two pages
    assert (len(server.asked), result["requests"]) == (8, 8)
    with session() as opened:
        spike, faye = opened.get_one(UserProfile, "Spike"), opened.get_one(UserProfile, "Faye")
        assert (spike.item_ids, spike.external_id, faye.item_ids) == (["1", "2", "3"], "7", ["2", "9"])
        item = opened.get_one(CatalogueItem, "2")
        assert (item.title, item.features["studios"], item.features["year"]) == ("Anime 2", ["Sunrise"], 1998)


def test_a_second_import_asks_nothing_until_it_is_told_to_or_the_answers_expire(server: AniList) -> None:
    run(import_anilist, usernames=["spike", "shy"])
    first = len(server.asked)

    again = run(import_anilist, usernames=["SPIKE", "shy"], statuses=["planning"], tag_rank=10)

    assert (again["requests"], again["users"][0]["items"]) == (1, 1)  # item 4 is new to the catalogue
    assert run(import_anilist, usernames=["spike"])["requests"] == 0
    assert run(import_anilist, usernames=["spike"], refresh=True)["requests"] == first - 1
    with session() as opened:
        opened.execute(text("UPDATE source_page SET expires_at = now() - interval '1 second'"))
    assert run(import_anilist, usernames=["spike"])["requests"] == first - 1


def test_a_title_that_postgres_would_refuse_does_no_harm(server: AniList) -> None:
    server.media[3] = medium(3, title={"romaji": "a\0b\ud800", "english": None, "native": None})

    run(import_anilist, usernames=["jet"])

    with session() as opened:
        assert opened.get_one(CatalogueItem, "3").title == "a\ufffdb?"


def test_an_event_counts_once_for_popularity_and_half_after_the_half_life(server: AniList) -> None:
    for _ in range(2):
        run(import_anilist, usernames=["jet"], metadata=True)

    with session() as opened:
        assert opened.get_one(CatalogueItem, "3").popularity == pytest.approx(0.5, abs=0.001)


def test_what_was_answered_before_a_fault_is_not_asked_again(server: AniList, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = claim(import_anilist, usernames=["spike", "faye"], refresh=True)
    server.faults = [None, None, None, "403"]  # both lists are there, the media not

    with pytest.raises(Unreachable, match="temporarily disabled: submit again when it is back"):
        once(claimed, import_anilist)
    with session() as opened:
        assert opened.get_one(Row, claimed.id).state == "RETRY"
        opened.execute(text("UPDATE job SET run_at = now()"))
    drain()

    with session() as opened:
        done = opened.get_one(Row, claimed.id)
        assert (done.state, done.result["cached"], done.result["requests"]) == ("SUCCESS", 3, 2)
    assert len(server.asked) == 6


@pytest.fixture
def mapping(tmp_path: Path) -> Callable[[str], str]:
    def write(rows: str) -> str:
        (tmp_path / "ids.csv").write_text("source,item\n" + rows)
        return str(tmp_path / "ids.csv")

    return write


def test_ids_are_those_of_the_catalogue(server: AniList, mapping: Callable[[str], str]) -> None:
    with session() as opened:
        opened.add(CatalogueItem(item_id="ours-1", title="One", features={}))

    mal = run(import_anilist, usernames=["faye"], ids="mal", prefix="anilist:")
    mapped = run(import_anilist, usernames=["spike"], ids="mal", mapping=mapping("1001,ours-1\n1002,ours-2\n"))

    assert mal["users"] == [{"username": "anilist:Faye", "items": 1, "known": 0, "skipped": {"no MAL id": 1}}]
    assert mapped["users"][0]["skipped"] == {"planning": 1, "not in the mapping": 1}
    assert (mapped["known"], mapped["known_share"]) == ("1 of 2 ids known to the catalogue", 0.5)
    with session() as opened:
        assert opened.get_one(CatalogueItem, "ours-1").title == "Anime 1"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"usernames": ["shy"]}, "none of 1 users could be imported, the first: the list of 'shy' is private: ask"),
        ({"usernames": ["spike"], "mapping": "1,\n"}, "ids.csv: row 1 has no item: fill it or remove the row"),
        ({"usernames": ["spike"], "mapping": "1,a\n1,b\n"}, "ids.csv: row 2 maps '1' a second time, to 'b'"),
    ],
)
def test_what_no_attempt_can_mend_fails_for_good(
    server: AniList, mapping: Callable[[str], str], params: dict[str, Any], message: str
) -> None:
    if "mapping" in params:
        params = params | {"mapping": mapping(params["mapping"])}

    with pytest.raises(JobError, match=message):
        run(import_anilist, **params)


def test_workers_share_one_pace(clean_db: Path) -> None:
    redis_client.cache_clear()
    slept: list[float] = []
    one, other = (Pace("test", per_minute=60, burst=2, sleep=slept.append) for _ in range(2))

    one.turn()
    other.turn()
    one.turn()
    other.turn()
    other.hold(30)
    one.turn()

    assert slept == pytest.approx([1, 2, 30], abs=0.2)
    assert 0 < redis_client().ttl(PACE.format(service="test")) < 200


def test_pages_that_expired_are_cleaned_away(clean_db: Path) -> None:
    with autocommit() as connection:
        source_page.put(connection, "test", {"old": {}}, -1)
        source_page.put(connection, "test", {"new": {"title": "one"}}, 60)

        assert run(clean_cache)["expired_pages"] == 1
        assert source_page.read(connection, ["old", "new"]) == {"new": {"title": "one"}}


def test_what_the_model_in_use_knows_is_counted(
    trained: dict[str, Any], server: AniList, mapping: Callable[[str], str]
) -> None:
    result = run(import_anilist, usernames=["spike"], mapping=mapping("1,i0\n2,i1\n3,new\n"))

    assert result["known"] == "2 of 3 ids known to version 1 of the model"
    assert result["users"][0]["known"] == 2
