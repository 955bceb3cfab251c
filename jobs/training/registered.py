"""Finding a version in the registry of models by what a user calls it, and what it came from in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from broker.errors import JobError
from db import registry
from db.artifact import Model

_LARGEST = 2**31 - 1  # the column is an integer


def find(session: Session, asked: str) -> Model:
    """The version in use of "name", or that of "name@version". Raises JobError: what there is instead."""
    name, _, version = asked.partition("@")
    if version and not version.isdecimal():
        raise JobError(f"model {asked!r}: {version!r} is no version: write name@number")
    if version and int(version) <= _LARGEST:
        there = select(Model).where(Model.name == name, Model.version == int(version))
        found = session.scalars(there).one_or_none()
    else:
        found = None if version else registry.current(session, name)
    if found is not None:
        return found
    versions = sorted(session.scalars(select(Model.version).where(Model.name == name)))
    if versions and version:
        raise JobError(f"model {name!r} has no version {version}: it has {', '.join(map(str, versions))}")
    if versions:
        raise JobError(f"model {name!r} has no version in use: `gristmill models promote {name} VERSION` makes one")
    names = sorted(session.scalars(select(Model.name).distinct()))
    near = difflib.get_close_matches(name, names, 3) or names[:5]
    there_are = f"there is {', '.join(near)}" if names else "there are none yet: train one"
    raise JobError(f"model {name!r} is not in the registry ({there_are})")


def ancestry(lineage: Mapping[str, Any]) -> str:
    """Such as "quantized from teacher@2", of whatever relations the lineage has; "" where it came from nothing."""
    relations = ((name, of) for name, of in lineage.items() if isinstance(of, Mapping) and "name" in of)
    return ", ".join(f"{name.replace('_', ' ')} {of['name']}@{of.get('version', '?')}" for name, of in relations)
