"""Events appended to histories in one statement, as a site sends them."""

from pathlib import Path

import pytest
from sqlalchemy import text

from db import interactions
from db import recommend as rows
from db.engine import session
from db.recommend import CatalogueItem, UserProfile
from jobs.recommend.profile import profile_hash

STRANGE = ["ü", 'a"b', "back\\slash", "tab\there", "\x7f", "\x01", "日本", "</x>", "1", "🎬"]


@pytest.fixture(autouse=True)
def stored(clean_db: Path) -> None:
    with session() as opened:
        rows.put_items(opened, [{"item_id": "1", "title": "One", "features": {}}])
        interactions.append(opened, [("ann", "1"), ("bob", "2"), ("ann", "3")])


def profile(username: str) -> UserProfile:
    with session() as opened:
        return opened.get_one(UserProfile, username)


def test_events_are_appended_in_their_order_and_new_users_are_made() -> None:
    with session() as opened:
        grown = interactions.append(opened, [("cid", "9"), ("ann", "0"), ("bob", "2"), ("ann", "3"), ("ann", "4")])

    assert grown == 2  # bob did nothing new
    assert profile("ann").item_ids == ["1", "3", "0", "4"]
    assert (profile("bob").item_ids, profile("cid").item_ids) == (["2"], ["9"])
    assert (profile("ann").item_count, profile("ann").model_version) == (4, None)


def test_the_database_hashes_a_profile_as_the_jobs_do() -> None:
    with session() as opened:
        interactions.append(opened, [("ann", item) for item in STRANGE])
        interactions.append(opened, [("new", item) for item in STRANGE])

    for username in ("ann", "new"):
        assert profile(username).profile_hash == profile_hash(profile(username).item_ids)
    assert profile("new").item_ids == STRANGE


def test_events_make_their_items_popular_and_time_makes_them_less_so() -> None:
    with session() as opened:
        interactions.append(opened, [("bob", "1"), ("cid", "1")])
        interactions.decay_popularity(opened, interactions.HALF_LIFE)
        interactions.add_popularity(opened, {"2": 2.0})
        rows.put_popularity(opened, {"3": 7.0, "unknown": 1.0})

    with session() as opened:
        found = {item.item_id: (item.title, item.popularity) for item in opened.query(CatalogueItem)}
    assert found == {"1": ("One", 1.5), "2": ("2", 2.5), "3": ("3", 7.0)}


def test_an_event_of_nobody_is_refused() -> None:
    with session() as opened, pytest.raises(ValueError, match=r"event \('', '1'\): give a username and an item id"):
        interactions.append(opened, [("ann", "5"), ("", "1")])

    assert profile("ann").item_ids == ["1", "3"]


def test_lists_of_the_version_in_use_and_of_the_one_before_are_kept() -> None:
    with session() as opened:
        for version in range(1, 5):
            listed = {"username": "ann", "profile_hash": profile("ann").profile_hash, "features": {}, "items": []}
            rows.put_lists(opened, [listed], model_version=version, top_k=1)
            opened.execute(text("INSERT INTO artifact (digest, kind, size_bytes, manifest) VALUES (:d, 'x', 0, '{}')"),
                           {"d": str(version)})  # fmt: skip
            opened.execute(
                text("""INSERT INTO model (name, version, artifact_digest, is_current, lineage, metrics)
                        VALUES ('recommend', :v, CAST(:v AS varchar), :v = 3, '{}', '{}')"""), {"v": version}
            )  # fmt: skip
        deleted = rows.clean_versions(opened, 2)
        kept = opened.execute(text("SELECT model_version FROM recommendation_cache ORDER BY 1")).scalars().all()

    assert (deleted, kept) == (1, [2, 3, 4])  # 4 may be about to come into use
