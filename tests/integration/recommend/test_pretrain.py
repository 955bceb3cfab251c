"""Pre-computing users: four stages, batches equal to single users, a durable fan-out, and the refresh."""

from typing import Any

import pytest
from sqlalchemy import select

from db import ledger, read
from db.engine import autocommit, session
from db.job import Job as Row
from db.recommend import RecommendationCache, UserProfile
from jobs.recommend.tasks import pretrain_all, pretrain_batch, pretrain_user
from tests.integration.recommend.conftest import USERS
from tests.integration.recommend.running import claim, drain, once, run
from workers.context import RunContext

pytestmark = pytest.mark.usefixtures("trained")


def lists() -> dict[str, list[list[Any]]]:
    with session() as opened:
        return {row.username: row.items for row in opened.scalars(select(RecommendationCache))}


def test_a_user_is_computed_in_four_reported_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []
    report = RunContext.progress

    def spy(self: RunContext, done: int, total: int, *, stage: str = "", message: str = "") -> None:
        stages.append(stage)
        report(self, done, total, stage=stage, message=message)

    monkeypatch.setattr(RunContext, "progress", spy)
    result = run(pretrain_user, username="u1", top_k=7)

    assert list(dict.fromkeys(stages)) == ["map items", "run model", "extract features", "write caches"]
    assert (result["cached"], result["recommendations"]) == (False, 7)
    with session() as opened:
        profile = opened.get_one(UserProfile, "u1")
        row = opened.get_one(RecommendationCache, ("u1", 1))
    assert result["known_items"] == profile.item_count
    assert sum(profile.features["year"].values()) == profile.item_count
    assert (profile.model_version, row.model_version, row.profile_hash) == (1, 1, profile.profile_hash)
    assert not {item for item, _ in row.items} & set(profile.item_ids)
    assert [score for _, score in row.items] == sorted((score for _, score in row.items), reverse=True)


def test_a_fresh_list_is_not_computed_again_unless_forced() -> None:
    run(pretrain_user, username="u1")

    assert run(pretrain_user, username="u1")["cached"]
    assert not run(pretrain_user, username="u1", force=True)["cached"]
    assert not run(pretrain_user, username="u1", top_k=200)["cached"]  # longer than what is stored


def test_a_given_history_makes_a_new_user_and_unknown_items_are_counted() -> None:
    result = run(pretrain_user, username="new", item_ids=["i3", "i4", "elsewhere", "i4"], external_id="42")

    assert (result["known_items"], result["items"]) == (2, 3)
    with session() as opened:
        profile = opened.get_one(UserProfile, "new")
    assert (profile.item_ids, profile.external_id) == (["i3", "i4", "elsewhere"], "42")


def test_a_user_of_whom_the_model_knows_nothing_has_a_row_that_says_so() -> None:
    result = run(pretrain_user, username="new", item_ids=["elsewhere"])
    again = run(pretrain_user, username="new")

    assert (result["basis"], result["recommendations"], result["known_items"], result["items"]) == ("popular", 0, 0, 1)
    assert again["cached"]
    with session() as opened:
        row = opened.get_one(RecommendationCache, ("new", 1))
    assert (row.basis, row.items, row.state) == ("popular", [], None)


def test_a_batch_gives_the_lists_of_single_users() -> None:
    names = [f"u{n}" for n in range(USERS)]
    for name in names:
        run(pretrain_user, username=name, top_k=10)
    single = lists()

    result = run(pretrain_batch, usernames=[*names, "nobody"], force=True, top_k=10)

    assert (result["computed"], result["skipped"]) == (USERS, 1)
    assert result["reasons"] == ["unknown user 'nobody': import a history with recommend.import_data"]
    assert lists() == single


def test_all_users_are_computed_once_and_then_served_from_the_cache() -> None:
    first = run(pretrain_all, chunk=8)
    second = run(pretrain_all, chunk=8)

    assert (first["users"], first["computed"], first["cached"], first["batches"]) == (USERS, USERS, 0, 4)
    assert (second["computed"], second["cached"], second["cache_hit_rate"]) == (0, USERS, 1.0)
    assert first["users_per_s"] > 0


def test_a_fan_out_over_all_users_tells_how_many_are_done_and_when_it_will_be() -> None:
    claimed = claim(pretrain_all, chunk=8)
    once(claimed, pretrain_all)
    with autocommit() as connection:
        first, *others = connection.execute(select(Row.id, Row.params).where(Row.kind == "recommend.pretrain_batch"))
        before = read.pulse(connection, claimed.id)
        child = ledger.claim(connection, first.id, "test", 60)
    once(child, pretrain_batch)
    with autocommit() as connection:
        after = read.pulse(connection, claimed.id)

    assert {"first", "last"} < first.params.keys()  # not names: a million of them would fill the ledger
    assert len(others) == 3
    assert (before.note, before.left_s) == (f"0 of {USERS} users", None)
    assert after.note.startswith("8 of 30 users, ")
    assert after.left_s > 0


def test_users_who_come_while_all_are_computed_do_not_disturb_the_fan_out() -> None:
    claimed = claim(pretrain_all, chunk=8)
    once(claimed, pretrain_all)  # the children are recorded, the parent waits
    run(pretrain_user, username="aaa", item_ids=["i1", "i2"])  # runs the children, too, and then the parent
    drain()

    with session() as opened:
        row = opened.get_one(Row, claimed.id)
    assert (row.state, row.result["users"]) == ("SUCCESS", USERS)


def test_a_list_of_a_profile_that_changed_meanwhile_is_not_stored() -> None:
    from db import recommend as rows

    old = {"username": "u1", "profile_hash": "of another history", "features": {}, "items": [["i1", 1.0]]}
    with session() as opened:
        stored = rows.put_lists(opened, [old], model_version=1, top_k=1)

    assert (stored, lists()) == (0, {})
