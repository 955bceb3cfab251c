"""A version in the registry of models: found by what a user calls it; its scores and what it came from in words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from broker.errors import JobError
from db import registry
from db.artifact import Artifact, Model

_SCORES = ("ndcg@10", "accuracy")  # the number by which a recommender, and a classifier, is known
_OTHERS = ("in_use", "compression")  # of another version; of a candidate on a part of dev
_LARGEST = 2**31 - 1  # the column is an integer


def find(session: Session, asked: str, kind: str | None = None) -> Model:
    """The version in use of "name", or that of "name@version". Raises JobError: what there is instead, of this kind of
    artifact if one is named."""
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
    raise JobError(f"model {name!r} is not in the registry ({instead(session, name, kind)})")


def instead(session: Session, name: str, kind: str | None = None) -> str:
    """What there is in the registry, of this kind: names like this one, or else the first few."""
    there = select(Model.name).distinct().join(Artifact, Artifact.digest == Model.artifact_digest)
    names = sorted(session.scalars(there if kind is None else there.where(Artifact.kind == kind)))
    near = difflib.get_close_matches(name, names, 3) or names[:5]
    return f"there is {', '.join(near)}" if names else "there are none yet: train one"


def origins(lineage: Mapping[str, Any]) -> list[tuple[str, str, int | None]]:
    """Such as ("quantized from", "teacher", 2), for each relation that the lineage has."""
    relations = ((name, of) for name, of in lineage.items() if isinstance(of, Mapping) and "name" in of)
    return [(name.replace("_", " "), str(of["name"]), of.get("version")) for name, of in relations]


def ancestry(lineage: Mapping[str, Any]) -> str:
    """Such as "quantized from teacher@2"; "" where it came from nothing."""
    return ", ".join(f"{relation} {name}@{version or '?'}" for relation, name, version in origins(lineage))


def scores(metrics: Mapping[str, Any]) -> list[str]:
    """One number a measurement, such as the test's beside popularity's, or else the numbers that there are."""
    found = list(_named(metrics))
    return found or [f"{name} {value:.4f}" for name, value in metrics.items() if isinstance(value, int | float)]


def _named(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in metrics.items():
        if not isinstance(value, dict) or name in _OTHERS:
            continue
        yield from (f"{prefix}{name} {score} {value[score]:.4f}" for score in _SCORES if score in value)
        if name == "baseline":
            yield from _named(value, "baseline ")
