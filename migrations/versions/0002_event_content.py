"""what an event shows is one column

Revision: 0002, after 0001

The content of the stored rows is made here byte for byte as the engine makes it, so that the first round afterwards
finds that nothing changed.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INSTANT = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"')"""

_FILL = f"""
UPDATE calendar_events e
   SET content = made.content, content_hash = substr(sha256(convert_to(made.content, 'UTF8')), 1, 16)
  FROM (SELECT id, CAST(row_to_json(shown) AS text) AS content
          FROM calendar_events s CROSS JOIN LATERAL (
               SELECT s.platform_uuid, s.ical_uid, s.name, s.description, s.location,
                      {_INSTANT.format("s.start_time")} AS start_time, {_INSTANT.format("s.end_time")} AS end_time,
                      s.is_all_day, s.start_date, s.end_date, s.time_zone, s.status, s.visibility, s.transparency,
                      s.event_type, s.organizer, s.creator, s.attendees, s.own_response_status, s.series_id,
                      {_INSTANT.format("s.original_start_time")} AS original_start_time, s.is_exception,
                      s.meeting_url, s.meeting_platform, s.meeting_candidates, s.html_link
          ) shown) made
 WHERE made.id = e.id
"""  # noqa: S608 - made of constants

_TEXTS = (
    "name",
    "description",
    "location",
    "time_zone",
    "visibility",
    "transparency",
    "event_type",
    "own_response_status",
    "html_link",
)
_OTHERS: tuple[tuple[str, sa.types.TypeEngine[object], str], ...] = (
    ("is_all_day", sa.Boolean(), "boolean"),
    ("start_date", sa.Date(), "date"),
    ("end_date", sa.Date(), "date"),
    ("original_start_time", sa.DateTime(timezone=True), "timestamptz"),
    ("is_exception", sa.Boolean(), "boolean"),
)
_NESTED = ("organizer", "creator", "attendees", "meeting_candidates")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("calendar_events", sa.Column("content", sa.Text(), nullable=True))
    op.execute(_FILL)
    op.alter_column("calendar_events", "content", nullable=False)
    for name in (*_TEXTS, *(name for name, *_ in _OTHERS), *_NESTED):
        op.drop_column("calendar_events", name)


def downgrade() -> None:
    """The hashes stay those of the content: the first round afterwards reports every event as updated."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in _TEXTS:
        op.add_column("calendar_events", sa.Column(name, sa.Text(), nullable=True))
    for name, kind, _ in _OTHERS:
        op.add_column("calendar_events", sa.Column(name, kind, nullable=True))
    for name in _NESTED:
        op.add_column("calendar_events", sa.Column(name, postgresql.JSON(), nullable=True))
    values = [f"{name} = CAST(content AS json) ->> '{name}'" for name in _TEXTS]
    values += [f"{name} = CAST(CAST(content AS json) ->> '{name}' AS {kind})" for name, _, kind in _OTHERS]
    values += [f"{name} = CAST(CAST(content AS json) ->> '{name}' AS json)" for name in _NESTED]
    op.execute(f"UPDATE calendar_events SET {', '.join(values)}")  # noqa: S608 - made of constants
    for name in ("is_all_day", "is_exception", "attendees", "meeting_candidates"):
        op.alter_column("calendar_events", name, nullable=False)
    op.alter_column("calendar_events", "is_exception", server_default=sa.text("false"))
    op.drop_column("calendar_events", "content")
