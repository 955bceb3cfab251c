"""Which classifiers of the registry are compared, and on what data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from broker.context import Context
from broker.errors import JobError
from db.artifact import Artifact, Model
from jobs.classify.tasks import Compare
from jobs.text import data
from jobs.text.artifact import KIND
from jobs.text.data import Dataset
from jobs.training.registered import find


@dataclass(frozen=True)
class Candidate:
    """A version in the registry."""

    name: str
    version: int
    in_use: bool
    digest: str
    manifest: dict[str, Any]
    lineage: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @classmethod
    def of(cls, model: Model, facts: dict[str, Any]) -> Candidate:
        return cls(model.name, model.version, model.is_current, model.artifact_digest, facts, model.lineage)


def choose(ctx: Context, params: Compare) -> tuple[list[Candidate], Dataset]:
    """The versions to compare, and their data: those named, or of each name that learned from it one version.

    That is the version in use, or the newest where none is. Raises JobError.
    """
    with ctx.session() as session:
        rows = session.execute(
            select(Model, Artifact.manifest)
            .join(Artifact, Artifact.digest == Model.artifact_digest)
            .where(Artifact.kind == KIND)
            .order_by(Model.name, Model.is_current.desc(), Model.version.desc())
        ).all()
        known = {(model.name, model.version): Candidate.of(model, facts) for model, facts in rows}
        named = [find(session, asked) for asked in params.models]
    if strange := next((each for each in named if (each.name, each.version) not in known), None):
        raise JobError(f"model {strange.name!r} is no text classifier: leave it out")
    asked = [known[each.name, each.version] for each in named]
    if not known:
        raise JobError("there are no classifiers in the registry: train one with classify.train_teacher")
    # reversed: of each name the first counts, which is the one in use or else the newest
    newest = list({each.name: each for each in reversed(known.values())}.values())
    try:
        dataset = data.asked(params, [each.manifest for each in asked or newest])
    except ValueError as error:
        raise JobError(str(error)) from None
    if asked:
        return _unique(asked), dataset
    digest = dataset.fingerprint()
    found = [
        each
        for each in newest
        if each.manifest["data"].get("sha256") == digest or each.manifest["data"].get("source") == dataset.source
    ]
    if not found:
        there = ", ".join(sorted({str(each.manifest["data"].get("name")) for each in newest}))
        raise JobError(f"no model in the registry was trained on {dataset.name} (there are models of {there})")
    return _unique(found), dataset


def _unique(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each content once."""
    found: dict[str, Candidate] = {}
    for each in candidates:
        found.setdefault(each.digest, each)
    return list(found.values())
