"""Cached lists of several model versions side by side, what they were made from, and how popular an item is."""

from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = """
ALTER TABLE recommendation_cache DROP CONSTRAINT recommendation_cache_pkey;
ALTER TABLE recommendation_cache ADD PRIMARY KEY (username, model_version);
ALTER TABLE recommendation_cache ADD COLUMN basis varchar NOT NULL DEFAULT 'model';
ALTER TABLE recommendation_cache ADD COLUMN state jsonb;
ALTER TABLE catalogue_item ADD COLUMN popularity double precision NOT NULL DEFAULT 0;
ALTER TABLE recommendation_stat ADD COLUMN incremental bigint NOT NULL DEFAULT 0;
CREATE INDEX catalogue_item_popularity ON catalogue_item (popularity DESC, item_id);
"""

BACK = """
DROP INDEX catalogue_item_popularity;
ALTER TABLE recommendation_stat DROP COLUMN incremental;
ALTER TABLE catalogue_item DROP COLUMN popularity;
DELETE FROM recommendation_cache older USING recommendation_cache newer
    WHERE older.username = newer.username AND older.model_version < newer.model_version;
ALTER TABLE recommendation_cache DROP COLUMN state;
ALTER TABLE recommendation_cache DROP COLUMN basis;
ALTER TABLE recommendation_cache DROP CONSTRAINT recommendation_cache_pkey;
ALTER TABLE recommendation_cache ADD PRIMARY KEY (username);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(BACK)
