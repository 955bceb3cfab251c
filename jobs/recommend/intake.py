"""Taking a data set into the database, and reading the database as a data set."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from broker.context import Context
from broker.errors import JobError
from db import recommend as rows
from db.recommend import CatalogueItem, UserProfile
from jobs.recommend import data
from jobs.recommend.histories import from_sequences
from jobs.recommend.params import DATABASE, Source
from jobs.recommend.popularity import popularity
from jobs.recommend.profile import profile_hash


def dataset(ctx: Context, params: Source) -> data.Dataset:
    """The data that the parameters name; what is wrong with it is wrong for good, so it is a JobError.

    Raises GristmillError while a database of the parameters does not answer.
    """
    try:
        if params.data == DATABASE:
            with ctx.session() as session:
                return from_database(session)
        columns = data.Columns(params.user, params.item, params.time, params.rating)
        return data.load(params.data, columns, params.catalogue, params.min_rating, params.table)
    except data.DataError as error:
        raise JobError(str(error)) from None


def from_database(session: Session) -> data.Dataset:
    """All histories, some thousand at a time: as texts they take ten times what their numbers do. Raises DataError."""
    query = select(UserProfile.username, UserProfile.item_ids).order_by(UserProfile.username)
    place: dict[str, int] = {}  # of an item among those met so far
    users: list[str] = []
    met: list[NDArray[np.int64]] = []
    for username, history in session.execute(query, execution_options={"yield_per": rows.ROWS}):
        users.append(username)
        met.append(np.array([place.setdefault(item, len(place)) for item in dict.fromkeys(history)], dtype=np.int64))
    if not users:
        raise data.DataError("the database holds no histories: import some with recommend.import_data")
    items = sorted(place)
    number = np.empty(len(items), dtype=np.int64)
    number[[place[item] for item in items]] = np.arange(len(items))
    histories = from_sequences([number[history] for history in met], items, users)
    titles: dict[str, str] = {}
    features: dict[str, data.Features] = {}
    for item in session.scalars(select(CatalogueItem)):
        titles[item.item_id], features[item.item_id] = item.title, item.features
    return data.Dataset(DATABASE, histories, data.Catalogue(titles, features))


def import_data(ctx: Context, params: Source) -> dict[str, Any]:
    started = time.perf_counter()
    ctx.progress(0, 1, stage="read", message=params.data)
    loaded = dataset(ctx, params)
    histories, catalogue = loaded.histories, loaded.catalogue
    items = [
        {"item_id": item, "title": catalogue.titles.get(item, item), "features": catalogue.features.get(item, {})}
        for item in dict.fromkeys((*histories.items, *catalogue.titles))
    ]
    changed_items = changed_users = 0
    for begin in range(0, len(items), rows.ROWS):
        ctx.progress(begin, len(items), stage="catalogue")
        with ctx.session() as session:
            changed_items += rows.put_items(session, items[begin : begin + rows.ROWS])
    if loaded.times is not None:
        with ctx.session() as session:
            rows.put_popularity(session, popularity(histories, loaded.times))
    for begin in range(0, len(histories), rows.ROWS):
        ctx.progress(begin, len(histories), stage="histories")
        users = range(begin, min(begin + rows.ROWS, len(histories)))
        profiles = [{"username": histories.users[user], "item_ids": histories.ids(user)} for user in users]
        for profile in profiles:
            profile["profile_hash"] = profile_hash(list(profile["item_ids"]))
        with ctx.session() as session:
            changed_users += rows.put_profiles(session, profiles)
    ctx.progress(len(histories), len(histories), stage="histories")
    return {
        "data": loaded.name,
        "users": len(histories),
        "items": len(items),
        "interactions": len(histories.flat),
        "changed_users": changed_users,
        "changed_items": changed_items,
        "seconds": round(time.perf_counter() - started, 3),
    }
