"""Finding a version in the registry of models by what a user calls it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from broker.errors import JobError
from db import registry
from db.artifact import Model


def find(session: Session, asked: str) -> Model:
    """The version in use of "name", or that of "name@version". Raises JobError: what there is instead."""
    name, _, version = asked.partition("@")
    if version and not version.isdecimal():
        raise JobError(f"model {asked!r}: {version!r} is no version: write name@number")
    if version:
        there = select(Model).where(Model.name == name, Model.version == int(version))
        found = session.scalars(there).one_or_none()
    else:
        found = registry.current(session, name)
    if found is not None:
        return found
    versions = sorted(session.scalars(select(Model.version).where(Model.name == name)))
    if versions and version:
        raise JobError(f"model {name!r} has no version {version}: it has {', '.join(map(str, versions))}")
    if versions:
        raise JobError(f"model {name!r} has no version in use: `gristmill models promote {name} VERSION` makes one")
    names = sorted(session.scalars(select(Model.name).distinct()))
    there_are = f"there are {', '.join(names[:5])}" if names else "there are none yet: train one"
    raise JobError(f"model {name!r} is not in the registry ({there_are})")
