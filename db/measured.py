"""Versions of models as a page compares them: each with its artifact's facts, and what comparisons measured of them."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from db.read import Reader

COMPARISON = "comparison"  # the kind of artifact that such a job leaves
_COMPARISONS = 20  # the newest ones that are looked at


@dataclass(frozen=True, slots=True)
class Version:
    """A version in the registry; from `data` on, what its artifact's manifest says, as far as it does."""

    name: str
    version: int
    is_current: bool
    created_at: datetime
    job_id: UUID | None
    metrics: dict[str, Any]  # without confusion matrices
    lineage: dict[str, Any]
    artifact_digest: str
    size_bytes: int
    kind: str
    data: str | None
    data_sha256: str | None
    architecture: str | None
    form: str | None
    parameters: int | None

    @property
    def label(self) -> str:
        """As commands and parameters of jobs call it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a job measured of several versions, one after the other on one machine: by name@version."""

    job_id: UUID
    finished_at: datetime
    on: str  # the split of the data
    entries: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Lists:
    """How many users there are, and how many of them have a list of some version that is of their history as it is."""

    users: int
    ready: int


# Without the confusion matrices, which of many classes and versions are megabytes that no page shows.
_VERSIONS = text("""
    SELECT name, version, is_current, m.created_at, m.job_id, slim.metrics, lineage, artifact_digest, size_bytes, kind,
           manifest #>> '{data,name}' AS data, manifest #>> '{data,sha256}' AS data_sha256,
           manifest ->> 'architecture' AS architecture,
           nullif(trim(concat(manifest ->> 'form', ' ', manifest ->> 'precision')), '') AS form,
           CASE WHEN jsonb_typeof(manifest -> 'parameters') = 'number'
                THEN CAST(CAST(manifest ->> 'parameters' AS numeric) AS bigint) END AS parameters
    FROM model m JOIN artifact a ON a.digest = m.artifact_digest, LATERAL (
        SELECT CASE WHEN m.metrics #> '{dev,confusion}' IS NULL THEN m.metrics
                    ELSE m.metrics #- '{dev,confusion}' END AS metrics) AS dev, LATERAL (
        SELECT CASE WHEN dev.metrics #> '{test,confusion}' IS NULL THEN dev.metrics
                    ELSE dev.metrics #- '{test,confusion}' END AS metrics) AS slim
    WHERE CAST(:name AS varchar) IS NULL OR name = :name
    ORDER BY name, version DESC""")

_MADE_OF = text("""
    SELECT name, version FROM model
    WHERE EXISTS (SELECT FROM jsonb_each(lineage) AS of(relation, origin) WHERE origin @> CAST(:origin AS jsonb))
    ORDER BY name, version DESC""")

# However old: what comes into use is counted as new.
_LISTS = text("""
    SELECT (SELECT count(*) FROM user_profile) AS users, (
        SELECT count(*) FROM recommendation_cache JOIN user_profile USING (username, profile_hash)
        WHERE recommendation_cache.model_version = :version) AS ready""")

# By way of the few artifacts: the ledger has no index on kinds.
_FOUND = text("""
    SELECT j.id, j.finished_at, j.result FROM artifact a JOIN job j ON j.id = a.job_id
    WHERE a.kind = :kind AND j.state = 'SUCCESS' ORDER BY a.created_at DESC LIMIT :limit""")


def versions(on: Reader, name: str | None = None) -> list[Version]:
    """All versions of all models, or of one: by name, the newest first."""
    return [Version(**row) for row in on.execute(_VERSIONS, {"name": name}).mappings()]


def made_of(on: Reader, name: str, version: int) -> list[tuple[str, int]]:
    """Names and versions of those whose lineage has this one as a teacher, a parent or the like."""
    origin = json.dumps({"name": name, "version": version})
    return [(found, number) for found, number in on.execute(_MADE_OF, {"origin": origin})]


def lists(on: Reader, version: int) -> Lists:
    """What a version of the recommender would serve at once."""
    return Lists(*on.execute(_LISTS, {"version": version}).one())


def comparisons(on: Reader) -> list[Comparison]:
    """The newest comparisons that the ledger still knows, the newest first."""
    found = []
    for job_id, finished_at, result in on.execute(_FOUND, {"kind": COMPARISON, "limit": _COMPARISONS}):
        if isinstance(result, dict) and isinstance(result.get("models"), list):
            entries = {each["model"]: each for each in result["models"] if isinstance(each, dict) and "model" in each}
            found.append(Comparison(job_id, finished_at, str(result.get("on", "")), entries))
    return found
