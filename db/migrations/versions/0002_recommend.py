"""The recommender's tables: catalogue, users' profiles, cached recommendations and counters."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE catalogue_item (
    item_id varchar PRIMARY KEY,
    title varchar NOT NULL,
    features jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE user_profile (
    username varchar PRIMARY KEY,
    external_id varchar,
    item_ids jsonb NOT NULL,
    features jsonb NOT NULL DEFAULT '{}',
    profile_hash varchar NOT NULL,
    item_count integer NOT NULL,
    model_version integer,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE recommendation_cache (
    username varchar PRIMARY KEY REFERENCES user_profile (username) ON DELETE CASCADE,
    profile_hash varchar NOT NULL,
    items jsonb NOT NULL,
    top_k integer NOT NULL,
    model_version integer NOT NULL,
    cached_at timestamptz NOT NULL DEFAULT now(),
    hit_count bigint NOT NULL DEFAULT 0
);
CREATE INDEX recommendation_cache_age ON recommendation_cache (cached_at);

CREATE TABLE recommendation_stat (
    day date NOT NULL,
    device varchar NOT NULL,
    precision varchar NOT NULL,
    hits bigint NOT NULL DEFAULT 0,
    misses bigint NOT NULL DEFAULT 0,
    inferences bigint NOT NULL DEFAULT 0,
    inference_seconds double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (day, device, precision)
);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE recommendation_stat, recommendation_cache, user_profile, catalogue_item")
