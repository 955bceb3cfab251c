"""What remote sources of histories answered, kept until it expires."""

from alembic import op

revision = "0008"
down_revision = "0007"

TABLES = """
CREATE TABLE source_page (
    key varchar PRIMARY KEY,
    source varchar NOT NULL,
    body jsonb NOT NULL,
    fetched_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX source_page_expiry ON source_page (expires_at);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE source_page")
