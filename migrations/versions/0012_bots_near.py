"""an index for the looks ahead of hand-overs, which could read all bots

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index(
        "ix_bots_near",
        "bots",
        ["join_at"],
        postgresql_where=sa.text("calendar_id IS NOT NULL AND state IN ('scheduled', 'launching', 'launched')"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_bots_near", table_name="bots")
