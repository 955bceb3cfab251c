"""Jobs that may run in one batch, who led it, and the lane in which they are held back."""

from alembic import op

revision = "0005"
down_revision = "0004"

COLUMNS = """
ALTER TABLE job ADD COLUMN batch varchar, ADD COLUMN lane varchar, ADD COLUMN leader_id uuid;
UPDATE job SET lane = owner WHERE owner IS NOT NULL AND state IN ('PENDING', 'STARTED', 'RETRY');
CREATE INDEX job_batch ON job (batch, queue, priority, run_at) WHERE state = 'PENDING' AND batch IS NOT NULL;
CREATE INDEX job_leader ON job (leader_id) WHERE state = 'STARTED' AND leader_id IS NOT NULL;
"""

# {lane} is the column by which jobs are held back.
LANES = """
DROP INDEX job_unsent, job_held, job_lane;
CREATE INDEX job_unsent ON job (run_at) WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND {lane} IS NULL;
CREATE INDEX job_held ON job (queue, {lane}, priority, run_at)
    WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NULL AND {lane} IS NOT NULL;
CREATE INDEX job_lane ON job (queue, {lane}, priority)
    WHERE state IN ('PENDING', 'RETRY') AND sent_at IS NOT NULL AND {lane} IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(LANES.format(lane="lane"))


def downgrade() -> None:
    op.execute(LANES.format(lane="owner"))
    op.execute("ALTER TABLE job DROP COLUMN batch, DROP COLUMN lane, DROP COLUMN leader_id")
