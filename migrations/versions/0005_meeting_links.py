"""how a meeting's link was found, and what a project prefers

Revision: 0005, after 0004

The stored content gains the fields of its candidates, and why the first was chosen, as far as the stored ones tell:
scores follow from sources, passcodes stand in the addresses. What an address had been wrapped in comes with the event's
next change. The digests stay: they are taken over what was stored before.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A quote inside a JSON text is escaped, so these stand at one place of a content only.
_START = ',"meeting_candidates":'
_CHOICE = ',"meeting_choice":'
_END = ',"html_link":'

_SCORE = """CASE c.value ->> 'source' WHEN 'conference_data' THEN 100 WHEN 'online_meeting' THEN 100
            WHEN 'hangout_link' THEN 90 WHEN 'online_meeting_url' THEN 90 WHEN 'location' THEN 70 ELSE 50 END"""
_PASSCODE = r"""CASE WHEN c.value ->> 'platform' IN ('zoom', 'zoom_gov')
                     THEN substring(c.value ->> 'url' FROM '[?&][pP][wW][dD]=([^&#]+)')
                     WHEN c.value ->> 'platform' = 'microsoft_teams'
                     THEN substring(c.value ->> 'url' FROM '[?&][pP]=([^&#]+)') END"""

_PLACES = f"""
SELECT id, content, position('{_START}' IN content) + {len(_START)} AS start,
       position('{_CHOICE}' IN content) AS choice, position('{_END}' IN content) AS stop
  FROM calendar_events
"""  # noqa: S608 - made of constants


def _rewrite(columns: str, *, stop: str, after: str, choice: str) -> str:
    """Candidates with these columns, followed by `after`, in the place of what stands from `start` to `stop`."""
    return f"""
UPDATE calendar_events e
   SET content = concat(left(s.content, s.start - 1), made.candidates, {after}, substr(s.content, s.stop))
  FROM ({_PLACES}) s
 CROSS JOIN LATERAL (
       SELECT coalesce('[' || string_agg(CAST(row_to_json(shown) AS text), ',' ORDER BY c.number) || ']', '[]')
              AS candidates, {choice} AS choice
         FROM json_array_elements(CAST(substr(s.content, s.start, {stop} - s.start) AS json))
              WITH ORDINALITY AS c(value, number)
        CROSS JOIN LATERAL (SELECT {columns}) shown) made
 WHERE s.id = e.id
"""  # noqa: S608 - made of constants


_OLD = "c.value ->> 'url' AS url, c.value ->> 'platform' AS platform, c.value ->> 'source' AS source"
_SCORES = "array_agg(shown.score ORDER BY c.number)"

_UPGRADE = _rewrite(
    f"{_OLD}, {_SCORE} AS score, {_PASSCODE} AS passcode, CAST(NULL AS text) AS unwrapped_from",
    stop="s.stop",
    after=f"'{_CHOICE}', made.choice",
    choice=f"""CASE WHEN count(*) = 0 THEN 'null' WHEN count(*) = 1 THEN '"only"'
                    WHEN ({_SCORES})[1] = ({_SCORES})[2] THEN '"ambiguous"' ELSE '"source"' END""",
)
_DOWNGRADE = _rewrite(_OLD, stop="s.choice", after="''", choice="NULL")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("projects", sa.Column("meeting_preferences", postgresql.JSONB()))
    op.execute(sa.text(_UPGRADE.replace(":", r"\:")))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(sa.text(_DOWNGRADE.replace(":", r"\:")))
    op.drop_column("projects", "meeting_preferences")
