"""The web door: tokens, idempotency keys, and one channel on which every final job is announced."""

from alembic import op

revision = "0009"
down_revision = "0008"

TABLES = """
CREATE TABLE api_token (
    id uuid PRIMARY KEY,
    name varchar NOT NULL,
    digest bytea NOT NULL UNIQUE,
    scopes varchar[] NOT NULL CHECK (scopes <@ ARRAY['read', 'submit', 'admin']::varchar[] AND cardinality(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX api_token_live_name ON api_token (name) WHERE revoked_at IS NULL;

CREATE TABLE idempotency_key (
    caller varchar NOT NULL,
    key varchar NOT NULL,
    fingerprint bytea NOT NULL,
    job_ids uuid[],
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_key_age ON idempotency_key (created_at);
"""

# A door that waits for hundreds of jobs listens once. A second notification costs the same commit next to nothing: what
# is dear is the first, which the job's own channel has already (job_record_update).
TRIGGER = """
CREATE FUNCTION job_announce_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('job_final', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER job_ended AFTER UPDATE OF state ON job FOR EACH ROW
    WHEN (NEW.state IN ('SUCCESS', 'FAILURE', 'REVOKED') AND OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION job_announce_final();
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER job_ended ON job")
    op.execute("DROP FUNCTION job_announce_final")
    op.execute("DROP TABLE idempotency_key, api_token")
