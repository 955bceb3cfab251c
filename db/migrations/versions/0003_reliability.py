"""Owners and their fair share, notes of a job, what was dropped from the queues, what fitted into memory."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
ALTER TABLE job ADD COLUMN owner varchar, ADD COLUMN notes jsonb;
DROP INDEX job_unsent;
CREATE INDEX job_unsent ON job (run_at) WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND owner IS NULL;
CREATE INDEX job_held ON job (queue, owner, priority, run_at)
    WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND owner IS NOT NULL;
CREATE INDEX job_lane ON job (queue, owner, priority)
    WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NOT NULL AND owner IS NOT NULL;

CREATE TABLE dropped_message (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    queue varchar NOT NULL,
    reason varchar NOT NULL,
    excerpt varchar NOT NULL
);
CREATE INDEX dropped_message_at ON dropped_message (at);

CREATE TABLE batch_limit (
    model varchar NOT NULL,
    device varchar NOT NULL,
    batch integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, device)
);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE batch_limit, dropped_message")
    op.execute("DROP INDEX job_unsent")
    op.execute("ALTER TABLE job DROP COLUMN owner, DROP COLUMN notes")
    op.execute("CREATE INDEX job_unsent ON job (run_at) WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL")
