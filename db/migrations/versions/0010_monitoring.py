"""What the metrics count: jobs that ran along in another's batch, and the memory that workers use."""

from alembic import op

revision = "0010"
down_revision = "0009"

# As after 0004, and the cause of a start.
TRIGGER = """
CREATE OR REPLACE FUNCTION job_record_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_event (job_id, from_state, to_state, attempt, worker, error, cause, took_s)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.attempt, NEW.worker,
                CASE WHEN NEW.state IN ('RETRY', 'FAILURE') THEN NEW.error->>'message' END,
                CASE WHEN NEW.state = 'PENDING' AND NEW.run_at = timestamptz '9999-01-01 00:00:00+00' THEN 'Suspended'
                     WHEN NEW.state = 'PENDING' THEN 'GivenBack'
                     {started}WHEN NEW.state IN ('RETRY', 'FAILURE') OR NEW.error IS DISTINCT FROM OLD.error
                         THEN NEW.error->>'type' END,
                extract(epoch FROM clock_timestamp() - CASE WHEN OLD.state = 'STARTED' THEN OLD.started_at
                                                            WHEN NEW.state = 'STARTED' THEN OLD.run_at END));
    IF NEW.state IN ('SUCCESS', 'FAILURE', 'REVOKED') THEN
        PERFORM pg_notify('job_' || replace(NEW.id::text, '-', ''), NEW.state);
    END IF;
    RETURN NULL;
END $$;
"""
JOINED = """WHEN NEW.state = 'STARTED' AND NEW.leader_id IS NOT NULL THEN 'Joined'
                     """

MEMORY = """
CREATE UNLOGGED TABLE worker_memory (
    worker varchar NOT NULL,
    device varchar NOT NULL,
    used_bytes bigint NOT NULL,
    total_bytes bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (worker, device)
);
"""


def upgrade() -> None:
    op.execute(TRIGGER.format(started=JOINED))
    op.execute(MEMORY)


def downgrade() -> None:
    op.execute("DROP TABLE worker_memory")
    op.execute(TRIGGER.format(started=""))
