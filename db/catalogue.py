"""Reading the catalogue: what is popular lately, items by id or by a part of their title, and what is met together."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

FOUND = 20  # items that a part of a title may name before it says too little
USERS = 20_000  # whose histories are counted at most: the first that are found
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the catalogue."""

    item_id: str
    title: str
    features: dict[str, Any]
    popularity: float


_COLUMNS = "item_id, title, features, popularity"
_POPULAR = text(f"SELECT {_COLUMNS} FROM catalogue_item ORDER BY popularity DESC, item_id")
_BY_IDS = text(f"SELECT {_COLUMNS} FROM catalogue_item WHERE item_id = ANY(:ids)")
_BY_TITLE = text(f"""
    SELECT {_COLUMNS} FROM catalogue_item WHERE position(lower(:part) in lower(title)) > 0
    ORDER BY lower(title) <> lower(:part), popularity DESC, item_id LIMIT :limit""")

_MET = text("""
    SELECT item, count(*) FROM (SELECT item_ids FROM user_profile LIMIT :users) AS profile,
        jsonb_array_elements_text(profile.item_ids) AS item GROUP BY item""")
_MET_WITH = text("""
    SELECT item, count(*) FROM (SELECT item_ids FROM user_profile LIMIT :users) AS profile,
        jsonb_array_elements_text(profile.item_ids) AS item WHERE profile.item_ids @> to_jsonb(CAST(:with AS text))
    GROUP BY item""")


def popular(session: Session) -> Generator[Item]:
    """Everything, the most popular first, a page at a time: take what you need, and close it."""
    found = session.execute(_POPULAR, execution_options={"yield_per": _PAGE})
    try:
        for row in found:
            yield Item(*row)
    finally:
        found.close()


def items(session: Session, item_ids: Sequence[str]) -> dict[str, Item]:
    """Those of these items that the catalogue has, by id."""
    return {row[0]: Item(*row) for row in session.execute(_BY_IDS, {"ids": list(item_ids)})}


def by_title(session: Session, part: str, limit: int = FOUND) -> list[Item]:
    """Items with this in their title, whatever its case: the one that is called just so first, then by popularity."""
    return [Item(*row) for row in session.execute(_BY_TITLE, {"part": part, "limit": limit})]


def met(session: Session, item_id: str | None = None, users: int = USERS) -> dict[str, int]:
    """How many of so many users have each item in their history; with an id, of those users who have that one, too."""
    statement = _MET if item_id is None else _MET_WITH
    given = {"users": users} | ({} if item_id is None else {"with": item_id})
    return {row[0]: row[1] for row in session.execute(statement, given)}
