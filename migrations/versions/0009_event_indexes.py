"""indexes for end_time limits of events, for filters of bots and calendars, for references to launchers

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ON_AN_EVENT = sa.text("calendar_event_id IS NOT NULL")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index(
        "ix_calendar_events_long",
        "calendar_events",
        ["project_id", "end_time"],
        postgresql_where=sa.text("end_time - start_time > interval '48 hours'"),
    )
    op.create_index("ix_calendars_email", "calendars", ["project_id", sa.text("lower(email)")])
    op.create_index("ix_bots_state", "bots", ["project_id", "state"])
    op.create_index("ix_bots_meeting_url", "bots", ["meeting_url"], postgresql_using="hash")
    op.create_index(
        "ix_bots_key",
        "bots",
        ["project_id", "deduplication_key"],
        postgresql_where=sa.text("deduplication_key IS NOT NULL"),
    )
    op.create_index(
        "ix_bots_launcher",
        "bots",
        ["launcher_id", "created_at", "id"],
        postgresql_where=sa.text("launcher_id IS NOT NULL"),
    )
    op.create_index("ix_bots_handed_to", "bots", ["handed_to"], postgresql_where=sa.text("handed_to IS NOT NULL"))
    op.create_index("ix_rules_launcher", "rules", ["launcher_id"], postgresql_where=sa.text("launcher_id IS NOT NULL"))
    op.drop_index("ix_bots_event", table_name="bots")
    op.create_index("ix_bots_event", "bots", ["calendar_event_id", "created_at", "id"], postgresql_where=_ON_AN_EVENT)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_bots_event", table_name="bots")
    op.create_index("ix_bots_event", "bots", ["calendar_event_id"], postgresql_where=_ON_AN_EVENT)
    op.drop_index("ix_rules_launcher", table_name="rules")
    for name in ("handed_to", "launcher", "key", "meeting_url", "state"):
        op.drop_index(f"ix_bots_{name}", table_name="bots")
    op.drop_index("ix_calendars_email", table_name="calendars")
    op.drop_index("ix_calendar_events_long", table_name="calendar_events")
