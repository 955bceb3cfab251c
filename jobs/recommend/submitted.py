"""What the recommender's jobs are refused for at submission: users whom nobody knows, files that are not there."""

from __future__ import annotations

from sqlalchemy.orm import Session

from broker.errors import InvalidParams
from db.recommend import UserProfile
from jobs.recommend.cache import unknown
from jobs.recommend.params import (
    DATABASE,
    DATABASES,
    ML_100K,
    SQLITE,
    Evaluate,
    ImportAnilist,
    PretrainUser,
    ScoreItems,
    Source,
)
from jobs.training import files

_TABLE = "give the absolute path of a .csv, .tsv or .parquet file"


def known_user(params: PretrainUser, session: Session) -> None:
    """Refuses a user of whom there is no history, stored or given."""
    if params.item_ids is None:
        stored_user(params, session)


def stored_user(params: PretrainUser | ScoreItems, session: Session) -> None:
    """Refuses a user of whom there is no stored history."""
    if session.get(UserProfile, params.username) is None:
        raise InvalidParams(unknown(params.username))


def readable(params: Source, session: Session) -> None:
    """Refuses files that are not there, or lack a column that is named."""
    if params.data.startswith(SQLITE):
        files.find("data", params.data.removeprefix(SQLITE), "correct the path")
    elif params.data not in (ML_100K, DATABASE) and not params.data.startswith(DATABASES):
        found = files.find("data", params.data, f"{_TABLE} or of a MovieLens folder, or {ML_100K!r}")
        if found and found.is_file():
            rated = [params.rating] if params.rating and params.min_rating is not None else []
            files.check_table("data", found, [params.user, params.item, params.time, *rated])
    if params.catalogue and (files.is_table(params.catalogue) or not params.data.startswith(DATABASES)):
        _table("catalogue", params.catalogue, ["item"])
    if isinstance(params, Evaluate) and params.split:
        files.find("split", params.split, "give a split.csv from the report of recommend.evaluate")


def readable_mapping(params: ImportAnilist, session: Session) -> None:
    """Refuses a mapping that is not there, or is none."""
    if params.mapping:
        _table("mapping", params.mapping, ["source", "item"])


def _table(parameter: str, path: str, needed: list[str]) -> None:
    if found := files.find(parameter, path, _TABLE):
        files.check_table(parameter, found, needed)
