"""One user now: by a policy with reasons, similar items, scores of new titles; and what is popular for strangers."""

from typing import Any

import pytest
from sqlalchemy import func, select

from broker.errors import InvalidParams, JobError
from db import recommend as rows
from db.engine import session
from db.job import Job as Row
from db.recommend import CatalogueItem, UserProfile
from jobs.recommend import cache
from jobs.recommend.params import Policy, Rank
from jobs.recommend.policy.filters import UnknownLabel
from jobs.recommend.serve import rank as rank_for
from jobs.recommend.serve import recommend
from jobs.recommend.tasks import pretrain_user, rank, score_items, similar
from tests.integration.recommend.conftest import ITEMS
from tests.integration.recommend.running import claim, drain, run
from workers.context import RunContext

pytestmark = pytest.mark.usefixtures("trained")


@pytest.fixture
def popularity() -> dict[str, float]:
    """The higher the number of an item, the more popular."""
    values = {f"i{n}": float(n) for n in range(ITEMS)}
    with session() as opened:
        rows.put_popularity(opened, values)
    return values


def seen(username: str) -> list[str]:
    with session() as opened:
        return list(opened.get_one(UserProfile, username).item_ids)


def features(item: str) -> dict[str, Any]:
    with session() as opened:
        return dict(opened.get_one(CatalogueItem, item).features)


def jobs() -> int:
    with session() as opened:
        return opened.scalar(select(func.count()).select_from(Row)) or 0


def policy(**values: Any) -> Policy:
    return Policy.model_validate(values)


def test_without_a_policy_it_is_the_list_that_is_cached() -> None:
    run(pretrain_user, username="u1", top_k=10)
    cached = cache.read("u1", 10)

    ranked = run(rank, username="u1")

    assert cached
    assert [each["item"] for each in ranked["items"]] == [item for item, _ in cached.items]
    assert (ranked["basis"], ranked["model_version"]) == ("model", 1)
    assert ranked["reason"] == f"model 1, from {len(seen('u1'))} of the {len(seen('u1'))} items of the history"


def test_each_item_says_what_it_shares_with_the_history_and_what_of_it_is_nearest() -> None:
    history = seen("u1")

    first = run(rank, username="u1", genres=["G1"], top_k=30)["items"][0]

    assert "g1" in features(first["item"])["genres"]
    counted = {each["value"]: (each["count"], each["of"]) for each in first["why"]["shared"]}
    assert counted["g1"] == (sum("g1" in features(item)["genres"] for item in history), len(history))
    assert first["why"]["like"]
    assert {each["item"] for each in first["why"]["like"]} <= set(history)


def test_filters_leave_as_many_as_asked_for_where_there_are_so_many() -> None:
    listed = run(rank, username="u1", without_genres=["g0"], year_from=2000, diversity=0.5, top_k=9)["items"]
    fit = [n for n in range(10, ITEMS) if n % 3 and f"i{n}" not in seen("u1")]

    assert len(listed) == 9 <= len(fit)
    assert {each["item"] for each in listed} <= {f"i{n}" for n in fit}


def test_those_who_ask_together_are_answered_each_by_the_own_policy(popularity: dict[str, float]) -> None:
    asked = [
        Rank.model_validate(each)
        for each in (
            {"username": "u1"},
            {"username": "nobody", "top_k": 2},
            {"username": "u2", "genres": ["Dramma"]},
            {"username": "u3", "diversity": 1, "novelty": 1, "calibration": 1},
            {"username": "new", "item_ids": ["elsewhere", "i39"], "top_k": 2},
            {"username": "new", "item_ids": ["elsewhere"], "year_to": 2000, "top_k": 2},
        )
    ]

    plain, stranger, mistaken, odd, given, foreign = rank.body(RunContext(claim(rank, username="u1")), asked)

    assert plain == run(rank, username="u1")
    assert [each["item"] for each in stranger["items"]] == ["i39", "i38"]
    assert (stranger["basis"], stranger["reason"][:21]) == ("popular", "unknown user 'nobody'")
    assert isinstance(mistaken, JobError)
    assert str(mistaken) == "unknown genre 'Dramma': there are g0, g1, g2, h0, h1"
    assert len({each["item"] for each in odd["items"]} - set(seen("u3"))) == 10
    assert given["reason"] == "model 1, from 1 of the 2 items of the history"
    assert "i39" not in {each["item"] for each in given["items"]}
    assert [each["item"] for each in foreign["items"]] == ["i10", "i9"]


def test_novelty_needs_to_know_what_is_popular() -> None:
    with session() as opened:
        rows.put_popularity(opened, {f"i{n}": 0.0 for n in range(ITEMS)})
    with pytest.raises(JobError, match=r"novelty=0\.5: how popular items are is not known yet"):
        run(rank, username="u1", novelty=0.5)


def test_similar_items_are_others_within_the_filters() -> None:
    found = run(similar, item_id="i5", genres=["g2"], top_k=5)

    assert (found["title"], found["basis"], len(found["items"])) == ("Title 5", "model", 5)
    assert "i5" not in {each["item"] for each in found["items"]}
    assert all({"feature": "genres", "value": "g2"} in each["shared"] for each in found["items"])
    with pytest.raises(JobError, match="unknown item 'i99': `gristmill similar` finds"):
        run(similar, item_id="i99")


def test_an_item_that_came_after_the_training_is_like_those_of_its_features() -> None:
    with session() as opened:
        new = {"item_id": "n1", "title": "New", "features": {"genres": ["g2", "h1"], "year": 1996}}
        rows.put_items(opened, [new, {"item_id": "n2", "title": "Bare", "features": {}}])

    assert run(similar, item_id="n1")["basis"] == "content"
    with pytest.raises(JobError, match="item 'n2' is new to model 1, and what the catalogue says of it fits no other"):
        run(similar, item_id="n2")


def test_known_seen_and_new_titles_are_scored_together() -> None:
    old = seen("u1")[0]
    new = {"item_id": "n1", "features": {"genres": ["g1", "h1"], "year": 1999}}
    bare = {"item_id": "n2", "features": {"cast": ["somebody"]}}

    found = run(score_items, username="u1", items=[{"item_id": old}, new, bare, {"item_id": "i7"}])

    by_item = {each["item"]: each for each in found["items"]}
    assert (by_item[old]["seen"], by_item[old]["basis"]) == (True, "model")
    assert (by_item["n1"]["seen"], by_item["n1"]["basis"]) == (False, "content")
    percentiles = [each["percentile"] for each in found["items"]]
    assert percentiles == sorted(percentiles, reverse=True)
    assert 0 <= percentiles[-1] <= percentiles[0] <= 1
    (error,) = found["errors"]
    assert error["error"].startswith(
        "item 'n2' is new, has no title, and no other item shares its features (given: cast)"
    )
    assert (found["check"]["users"], found["check"]["random"]) == (30, 0.5)
    with pytest.raises(InvalidParams, match="unknown user 'nobody'"):
        score_items.submit(username="nobody", items=[{"item_id": "i1"}])


def test_a_visitor_is_served_what_is_popular_without_a_job(popularity: dict[str, float]) -> None:
    before = jobs()

    found, filtered = recommend("nobody", 3), rank_for("nobody", policy(genres=["G0"]), 2)

    assert (found.basis, [item for item, _ in found.items]) == ("popular", ["i39", "i38", "i37"])
    assert found.reason.startswith("unknown user 'nobody'")
    assert [each["item"] for each in filtered["items"]] == ["i39", "i36"]
    assert jobs() == before
    with pytest.raises(cache.UnknownUser, match="unknown user 'nobody'"):
        recommend("nobody", strict=True)
    with pytest.raises(UnknownLabel, match="unknown genre 'Dramma'"):
        rank_for("nobody", policy(genres=["g0", "Dramma"]), 2)


def test_a_user_of_whom_nothing_is_known_gets_what_is_popular_and_unseen(popularity: dict[str, float]) -> None:
    with session() as opened:
        user = {"username": "far", "external_id": None, "item_ids": ["elsewhere", "i39"], "profile_hash": "h"}
        rows.put_profiles(opened, [user])
        rows.put_lists(opened, [user | {"features": {}, "items": [], "basis": "popular"}], model_version=1, top_k=100)

    for _ in range(2):  # from Postgres, then from Redis
        found = recommend("far", 2, wait=pytest.fail)
        assert (found.basis, [item for item, _ in found.items]) == ("popular", ["i38", "i37"])
    assert found.reason == "the model in use knows nothing that user 'far' has seen: what is popular lately"


def test_before_the_first_training_everybody_gets_what_is_popular(popularity: dict[str, float]) -> None:
    with session() as opened:
        opened.execute(rows.text("UPDATE model SET is_current = false"))

    found = recommend("u1", 2, wait=pytest.fail)

    assert (found.basis, found.model_version) == ("popular", None)
    assert not {item for item, _ in found.items} & set(seen("u1"))


def test_a_policy_is_asked_of_a_worker(popularity: dict[str, float]) -> None:
    found = rank_for("u1", policy(calibration=0.5), 4, wait=lambda job: drain())

    assert (found["basis"], len(found["items"])) == ("model", 4)
