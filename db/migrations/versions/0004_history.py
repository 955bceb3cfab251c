"""What ended an attempt and how long it took, and how many messages a dropped one stands for: metrics count them."""

from alembic import op

revision = "0004"
down_revision = "0003"

# A block range index: the rows come in the order of their time, so it is a page large and costs an insert nothing.
COLUMNS = """
ALTER TABLE job_event ADD COLUMN cause varchar, ADD COLUMN took_s double precision;
CREATE INDEX job_event_at ON job_event USING brin (at);
ALTER TABLE dropped_message ADD COLUMN messages integer NOT NULL DEFAULT 1;
"""

# Also where only the attempt changes: a retry that is refused again (no worker knows its kind) was not recorded.
TRIGGER = """
CREATE OR REPLACE FUNCTION job_record_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_event (job_id, from_state, to_state, attempt, worker, error, cause, took_s)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.attempt, NEW.worker,
                CASE WHEN NEW.state IN ('RETRY', 'FAILURE') THEN NEW.error->>'message' END,
                CASE WHEN NEW.state = 'PENDING' AND NEW.run_at = timestamptz '9999-01-01 00:00:00+00' THEN 'Suspended'
                     WHEN NEW.state = 'PENDING' THEN 'GivenBack'
                     WHEN NEW.state IN ('RETRY', 'FAILURE') OR NEW.error IS DISTINCT FROM OLD.error
                         THEN NEW.error->>'type' END,
                extract(epoch FROM clock_timestamp() - CASE WHEN OLD.state = 'STARTED' THEN OLD.started_at
                                                            WHEN NEW.state = 'STARTED' THEN OLD.run_at END));
    IF NEW.state IN ('SUCCESS', 'FAILURE', 'REVOKED') THEN
        PERFORM pg_notify('job_' || replace(NEW.id::text, '-', ''), NEW.state);
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER job_moved ON job;
CREATE TRIGGER job_moved AFTER UPDATE OF state, attempt ON job FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.attempt IS DISTINCT FROM NEW.attempt)
    EXECUTE FUNCTION job_record_update();
"""

TRIGGER_BEFORE = """
CREATE OR REPLACE FUNCTION job_record_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_event (job_id, from_state, to_state, attempt, worker, error)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.attempt, NEW.worker,
                CASE WHEN NEW.state IN ('RETRY', 'FAILURE') THEN NEW.error->>'message' END);
    IF NEW.state IN ('SUCCESS', 'FAILURE', 'REVOKED') THEN
        PERFORM pg_notify('job_' || replace(NEW.id::text, '-', ''), NEW.state);
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER job_moved ON job;
CREATE TRIGGER job_moved AFTER UPDATE OF state ON job FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION job_record_update();
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute(TRIGGER_BEFORE)
    op.execute("ALTER TABLE dropped_message DROP COLUMN messages")
    op.execute("DROP INDEX job_event_at")
    op.execute("ALTER TABLE job_event DROP COLUMN cause, DROP COLUMN took_s")
