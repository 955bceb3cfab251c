"""The weekly loop: lists under the new version while the old one serves, then one change, wherever it is killed."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from db import interactions, registry
from db import recommend as rows
from db.artifact import Model
from db.engine import session
from db.job import Job as Row
from db.recommend import RecommendationCache, UserProfile
from db.settings import settings
from db.store import ArtifactStore
from jobs.recommend import cache, evaluate, weekly
from jobs.recommend.tasks import pretrain_all, pretrain_user, refresh
from tests.anilist import AniList
from tests.integration.recommend.conftest import USERS
from tests.integration.recommend.running import claim, drain, once, run
from workers.cli.models import rollback

QUICK: dict[str, Any] = {"model": "sasrec", "preset": "quick", "top_k": 10}

pytestmark = pytest.mark.usefixtures("trained")


class Killed(BaseException):
    pass


def serving() -> int | None:
    found = cache.read("u1", 10)
    return found.model_version if found else None


def versions() -> list[tuple[int, bool]]:
    with session() as opened:
        return [(m.version, m.is_current) for m in opened.scalars(select(Model).order_by(Model.version))]


def lists() -> dict[int, int]:
    """How many of each version."""
    with session() as opened:
        found = opened.execute(text("SELECT model_version, count(*) FROM recommendation_cache GROUP BY 1 ORDER BY 1"))
        return dict(map(tuple, found))


def report(result: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    folder: Path = ArtifactStore(settings().artifacts(), settings().home).fetch(result["report"])
    assert (folder / "weeks.png").stat().st_size > 1000
    assert "data:image/png" in (folder / "index.html").read_text()
    return (folder / "report.md").read_text(), json.loads((folder / "report.json").read_text())


def test_the_old_version_serves_until_all_lists_are_there_and_a_kill_at_the_change_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(pretrain_all, top_k=10)
    promote, seen = registry.promote_over, list[Any]()

    def die(*given: Any) -> bool:
        seen.append((serving(), lists()))
        promote(*given)
        raise Killed

    claimed = claim(refresh, **QUICK)
    once(claimed, refresh)  # waits for its training
    with monkeypatch.context() as patch:
        patch.setattr(registry, "promote_over", die)
        with pytest.raises(Killed):
            drain()
    before = serving(), versions()
    with session() as opened:  # as the relay does when the lease runs out
        opened.execute(text("UPDATE job SET state = 'RETRY', run_at = now() WHERE id = :id"), {"id": claimed.id})
    drain()

    assert seen == [(1, {1: USERS, 2: USERS})]
    assert before == (1, [(1, True), (2, False)])
    assert (serving(), versions(), lists()) == (2, [(1, False), (2, True)], {1: USERS, 2: USERS})
    with session() as opened:
        row = opened.get_one(Row, claimed.id)
    assert (row.state, row.result["promoted"]) == ("SUCCESS", 2)
    assert row.result["pretrain"]["rebuilt"] == USERS
    said, data = report(row.result)
    assert "version 2 is in use: it ranks no worse than version 1" in said
    assert [each["taken"] for each in data["versions"]] == [True, True]

    # The way back is there, at once, but for whose history has changed since.
    with session() as opened:
        interactions.append(opened, [("u2", "i39"), ("u2", "i38")])
        opened.execute(text("UPDATE recommendation_cache SET cached_at = now() - interval '10 days'"))
    rollback("recommend")

    assert (serving(), cache.read("u3", 10) is not None) == (1, True)
    result = run(pretrain_user, username="u2", top_k=10)
    assert (result["update"], result["model_version"]) == ("incremental", 1)


def test_a_worse_model_stays_out_and_the_lists_in_use_are_brought_up_to_date_those_of_anilists_users_too(
    server: AniList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "compare", lambda _one, _other: evaluate.Difference(-0.2, -0.3, -0.1))
    run(pretrain_all, top_k=10)
    with session() as opened:
        interactions.append(opened, [("u1", "i39"), ("u1", "i38"), ("u2", "i0"), ("u2", "i39"), ("new", "i1")])
        opened.execute(text("UPDATE recommendation_cache SET cached_at = now() - interval '7 days'"))

    monkeypatch.setattr(rows, "ROWS", 7)  # so that they are renewed in several transactions

    result = run(refresh, anilist={"usernames": ["spike", "shy"]}, **QUICK)

    assert result["promoted"] is None
    assert "version 1 in use ranks better on this validation" in result["decision"]
    assert versions() == [(1, True), (2, False)]
    made = result["pretrain"]
    assert (made["incremental"], made["rebuilt"], made["cached"]) == (2, 1, USERS - 2)
    assert (made["popular"], lists()) == (1, {1: USERS + 2})  # of what AniList's user saw the model knows nothing
    with session() as opened:
        oldest = opened.execute(text("SELECT now() - min(cached_at) < interval '1 hour' FROM recommendation_cache"))
        assert oldest.scalar()  # those that were fresh serve for another week
    said = report(result)[0]
    assert "not taken into use" in said
    assert "imported from AniList: 1 users' histories changed" in said
    assert "not imported: the list of 'shy' is private" in said


def test_a_version_that_came_by_hand_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = weekly._decide

    def after_another(*given: Any) -> weekly.Decision:
        with session() as opened:
            opened.execute(text("UPDATE model SET version = 7 WHERE version = 1"))
        return decide(*given)

    monkeypatch.setattr(weekly, "_decide", after_another)
    result = run(refresh, **QUICK)

    assert result["decision"] == "version 2 is not taken into use: version 7 came meanwhile"
    assert (result["promoted"], lists()) == (None, {7: USERS})
    said, data = report(result)
    assert [(each["version"], each["taken"]) for each in data["versions"]] == [(2, False), (7, True)]
    assert said.count("no, only stored") == said.count("| yes") == 1


def test_increment_after_increment_gives_the_list_and_the_features_of_a_rebuild() -> None:
    run(pretrain_all, top_k=10)
    updates = []
    for new in (["i39", "elsewhere", "i20"], ["i38", "nowhere"]):
        with session() as opened:
            interactions.append(opened, [("u1", item) for item in new])
        updates.append(run(pretrain_user, username="u1", top_k=10)["update"])

    found = stored()
    updates.append(run(pretrain_user, username="u1", top_k=10, force=True)["update"])

    assert updates == ["incremental", "incremental", "rebuilt"]
    assert found == stored()
    assert cache.stats()["incremental"] == 2
    assert run(pretrain_all, top_k=10, force=True)["rebuilt"] == USERS


def stored() -> tuple[Any, ...]:
    with session() as opened:
        row, profile = opened.get_one(RecommendationCache, ("u1", 1)), opened.get_one(UserProfile, "u1")
        return row.items, row.state, row.profile_hash, profile.features
