"""Alembic's entry point: runs the migrations on the project's own engine."""

from alembic import context

import db.artifact
import db.batch_limit
import db.dropped
import db.edit
import db.idempotency
import db.job
import db.memory
import db.prune
import db.recommend
import db.residency
import db.source_page
import db.token  # noqa: F401
from db.base import Base
from db.engine import engine

with engine().connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        # Two processes that migrate at once: the second waits, then finds nothing to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7311)")
        context.run_migrations()
