"""Importing from a database that the worker knows by name, and what an import makes popular."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from broker.errors import JobError
from db.engine import session
from db.job import Job as Row
from db.recommend import CatalogueItem, UserProfile
from db.settings import settings as db_settings
from jobs.recommend.sources import database
from jobs.recommend.sources.settings import settings
from jobs.recommend.tasks import import_data
from tests.integration.recommend.running import run


@pytest.fixture
def shop(clean_db: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A schema of another application in the same server, read two rows at a time."""
    with session() as opened:
        opened.execute(text('CREATE SCHEMA "Shop"'))
        opened.execute(text('CREATE TABLE "Shop".ratings (who int, film uuid, at timestamptz, stars numeric)'))
        insert = text("""INSERT INTO "Shop".ratings
            VALUES (:who, CAST(lpad(:film, 32, '0') AS uuid), to_timestamp(:days * 86400), :stars)""")
        rows = [(1, "2", 90, 4), (1, "1", 0, 5), (2, "1", 90, 1)]
        opened.execute(insert, [dict(zip(("who", "film", "days", "stars"), row, strict=True)) for row in rows])
        opened.execute(text('CREATE TABLE "Shop".films (item uuid, title text, genres text[], year int)'))
        film = "(CAST(lpad('1', 32, '0') AS uuid), 'One', '{Drama,War}', 1999)"
        opened.execute(text(f'INSERT INTO "Shop".films VALUES {film}'))
    monkeypatch.setenv("GRISTMILL_DATABASES", json.dumps({"shop": db_settings().postgres_url()}))
    monkeypatch.setattr(database, "ROWS", 2)
    settings.cache_clear()
    yield
    settings.cache_clear()
    with session() as opened:
        opened.execute(text('DROP SCHEMA "Shop" CASCADE'))


COLUMNS = {"data": "sql:shop", "user": "who", "item": "film", "time": "at", "rating": "stars"}


def test_a_named_database_is_imported(shop: None) -> None:
    result = run(import_data, **COLUMNS, table="Shop.ratings", catalogue="Shop.films")

    one, two = (f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
    assert (result["users"], result["items"], result["interactions"]) == (2, 2, 3)
    with session() as opened:
        assert opened.get_one(UserProfile, "1").item_ids == [one, two]
        film = opened.get_one(CatalogueItem, one)
        assert (film.title, film.features) == ("One", {"genres": ["Drama", "War"], "year": 1999})
        # an event of the latest day counts one, another that is a half-life older one half
        assert (film.popularity, opened.get_one(CatalogueItem, two).popularity) == (1.5, 1.0)
    assert run(import_data, **COLUMNS, table="Shop.ratings", min_rating=4)["users"] == 1


def test_the_password_of_a_database_is_in_no_row(shop: None, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://reader:hidden-secret@127.0.0.1:1/shop"
    monkeypatch.setenv("GRISTMILL_DATABASES", json.dumps({"shop": url}))
    settings.cache_clear()

    with pytest.raises(database.Unreachable, match=r"sql:shop: .*look whether the database is there"):
        run(import_data, **COLUMNS, table="ratings")

    with session() as opened:
        row = opened.query(Row).one()
        assert row.state == "RETRY"  # it may be back
        assert "hidden-secret" not in json.dumps([row.params, row.error])


def test_a_missing_table_fails_for_good(shop: None) -> None:
    with pytest.raises(JobError, match=r"sql:shop has no table 'Shop.sales', it has 'films', 'ratings': name"):
        run(import_data, **COLUMNS, table="Shop.sales")
