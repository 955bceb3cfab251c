"""What users do, appended to their histories as it happens, and how popular it makes the items; light enough for a web
app, which calls `append` in its own transaction or on a connection of its own."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta

from sqlalchemy import text

from db.recommend import Executor

HALF_LIFE = timedelta(days=90)  # after which an event counts half for the popularity of its item

# An item that the history has already is no event: seen items are never recommended. The hash is profile_hash's of
# jobs/recommend/profile.py. In the order of the names, as all that writes profiles; then the catalogue.
_APPEND = text("""
    WITH event AS (
        SELECT e.value->>0 AS username, e.value->>1 AS item_id, e.place
        FROM jsonb_array_elements(CAST(:events AS jsonb)) WITH ORDINALITY AS e(value, place)
    ), popular AS (
        INSERT INTO catalogue_item (item_id, title, popularity)
        SELECT item_id, item_id, count(*) FROM event GROUP BY item_id ORDER BY item_id
        ON CONFLICT (item_id) DO UPDATE SET popularity = catalogue_item.popularity + excluded.popularity
    ), mentioned AS (
        SELECT username, item_id, min(place) AS place FROM event GROUP BY username, item_id
    ), appended AS (
        SELECT username, jsonb_agg(item_id ORDER BY place) AS item_ids FROM mentioned GROUP BY username
    )
    INSERT INTO user_profile (username, item_ids, profile_hash, item_count)
    SELECT username, item_ids, encode(sha256(convert_to(item_ids::text, 'UTF8')), 'hex'), jsonb_array_length(item_ids)
    FROM appended ORDER BY username
    ON CONFLICT (username) DO UPDATE SET
        features = '{}', model_version = NULL, updated_at = now(), (item_ids, profile_hash, item_count) = (
            SELECT whole, encode(sha256(convert_to(whole::text, 'UTF8')), 'hex'), jsonb_array_length(whole)
            FROM (SELECT user_profile.item_ids || jsonb_agg(new.item ORDER BY new.place) AS whole
                  FROM jsonb_array_elements(excluded.item_ids) WITH ORDINALITY AS new(item, place)
                  WHERE NOT user_profile.item_ids @> new.item) AS grown)
    WHERE NOT user_profile.item_ids @> excluded.item_ids""")

# Items are locked in their order by whatever changes several: two statements would else end in a deadlock.
_ADD_POPULARITY = text("""
    WITH added AS MATERIALIZED (
        SELECT key, value::float8 FROM jsonb_each_text(CAST(:added AS jsonb)) JOIN catalogue_item ON item_id = key
        ORDER BY item_id FOR NO KEY UPDATE OF catalogue_item)
    UPDATE catalogue_item SET popularity = popularity + value FROM added WHERE item_id = key""")

_DECAY = text("""
    WITH known AS MATERIALIZED (
        SELECT item_id AS key FROM catalogue_item WHERE popularity <> 0 ORDER BY item_id FOR NO KEY UPDATE)
    UPDATE catalogue_item SET popularity = popularity * power(0.5, :half_lives) FROM known WHERE item_id = key""")

_SINCE = text("""
    SELECT now() - max(finished_at) FROM job
    WHERE kind = :kind AND state = 'SUCCESS' AND created_at > now() - interval '90 days'""")


def append(on: Executor, events: Iterable[tuple[str, str]]) -> int:
    """Append (username, item id) events, oldest first, in one statement; returns how many users' histories grew.

    Users and items that were not known are made. Each event adds 1 to its item's popularity.
    """
    given = [[username, item_id] for username, item_id in events]
    if empty := next((event for event in given if not all(event)), None):
        raise ValueError(f"event {tuple(empty)}: give a username and an item id, neither empty")
    return on.execute(_APPEND, {"events": json.dumps(given)}).rowcount  # type: ignore[attr-defined]


def add_popularity(on: Executor, added: Mapping[str, float]) -> None:
    """Count further events of items in the catalogue, as `append` does: for imports that know a few users only."""
    on.execute(_ADD_POPULARITY, {"added": json.dumps(dict(added))})


def decay_popularity(on: Executor, since: timedelta) -> None:
    """So much time has passed for all items."""
    on.execute(_DECAY, {"half_lives": since / HALF_LIFE})


def since_last(on: Executor, kind: str) -> timedelta:
    """Since a job of this kind last succeeded; nothing if none did."""
    return on.execute(_SINCE, {"kind": kind}).scalar_one() or timedelta(0)
