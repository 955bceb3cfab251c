"""What is kept in the artifact store, and the registry of models."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base


class Artifact(Base):
    """A folder in the artifact store, addressed by the digest of its files."""

    __tablename__ = "artifact"

    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    manifest: Mapped[dict[str, Any]] = mapped_column(JSONB)
    job_id: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))


class Model(Base):
    """A version of a named model: what it scored, what it came from, and whether it is the one in use."""

    __tablename__ = "model"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        Index("model_current", "name", unique=True, postgresql_where=text("is_current")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    artifact_digest: Mapped[str] = mapped_column(ForeignKey("artifact.digest"))
    metrics: Mapped[dict[str, Any]] = mapped_column(JSONB)
    lineage: Mapped[dict[str, Any]] = mapped_column(JSONB)
    is_current: Mapped[bool] = mapped_column(server_default=text("false"))
    job_id: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
