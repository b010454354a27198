"""The schema's way up, down and up again; models and migrations agree; what the schema promises about clocks."""

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import orjson
import pytest
from alembic import command
from alembic.config import Config

from app.ids import new_id
from app.meetings import Choice, MeetingCandidate
from app.oauth_apps import TRIED_ORDER
from app.providers.base import Attendee, Person, RemoteEvent
from app.sync import content

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(database_url: str) -> Config:
    """alembic on a fresh database."""
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("database_url", database_url.replace("%", "%%"))
    return config


async def test_down_to_nothing_and_up_again(config: Config, database_url: str) -> None:
    await asyncio.to_thread(command.downgrade, config, "base")
    assert await names(database_url) == {"alembic_version"}
    await asyncio.to_thread(command.upgrade, config, "head")
    assert "sync_state" in await names(database_url)


async def test_models_and_migrations_agree(config: Config) -> None:
    await asyncio.to_thread(command.check, config)


async def test_two_migrations_at_once(config: Config, database_url: str, redis_url: str) -> None:
    await asyncio.to_thread(command.downgrade, config, "base")
    environment = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PATH": ""}
    punctual = Path(sys.executable).with_name("punctual")
    migrations = [await asyncio.create_subprocess_exec(punctual, "migrate", env=environment) for _ in range(2)]
    assert [await one.wait() for one in migrations] == [0, 0]
    assert "calendar_events" in await names(database_url)


_OLD_ROW = """
INSERT INTO calendar_events (id, project_id, calendar_id, platform_uuid, ical_uid, name, description, start_time,
    end_time, is_all_day, start_date, end_date, time_zone, status, organizer, attendees, own_response_status, series_id,
    original_start_time, is_exception, meeting_candidates, change_seq, content_hash, created_at, updated_at)
VALUES ($1, $1, $1, 'abc', 'abc@example.com', 'Läufer "☃" \\', E'a\\tb\\nc\\x01/d', '2026-12-01T09:00:00Z', '2026-12-01T09:30:00.25Z',
    false, '2026-12-01', '2026-12-02', 'Europe/Berlin', 'confirmed', '{"email":"ada@example.com","name":null,"self":true}',
    '[{"email":"b@example.com","name":"B","response_status":"accepted","optional":true,"organizer":false,"self":false,"resource":false}]',
    'accepted', 'series', '2026-12-01T08:00:00Z', true,
    $2, 1, '\\x00', now(), now())
"""  # noqa: E501 - as it was stored

_SAME = RemoteEvent(
    platform_uuid="abc",
    ical_uid="abc@example.com",
    name='Läufer "☃" \\',
    description="a\tb\nc\x01/d",
    location=None,
    start_time=datetime(2026, 12, 1, 9, tzinfo=UTC),
    end_time=datetime(2026, 12, 1, 9, 30, 0, 250_000, tzinfo=UTC),
    is_all_day=False,
    start_date=date(2026, 12, 1),
    end_date=date(2026, 12, 2),
    time_zone="Europe/Berlin",
    status="confirmed",
    visibility=None,
    transparency=None,
    event_type=None,
    organizer=Person("ada@example.com", None, self=True),
    creator=None,
    attendees=(Attendee("b@example.com", "B", "accepted", optional=True, organizer=False, self=False, resource=False),),
    own_response_status="accepted",
    series_id="series",
    original_start_time=datetime(2026, 12, 1, 8, tzinfo=UTC),
    is_exception=True,
    meeting_url=None,
    meeting_platform=None,
    meeting_candidates=(MeetingCandidate("https://meet.google.com/x", "google_meet", "hangout_link", 90),),
    html_link=None,
    raw=None,
)


_ZOOM = "https://zoom.us/j/123456789?pwd=aB%2F1.x&from=addon"
_TEAMS = "https://teams.live.com/meet/9312345678901?p=Äb3"
_FOUND: list[tuple[tuple[MeetingCandidate, ...], Choice | None]] = [
    ((), None),
    (_SAME.meeting_candidates, "only"),
    (
        (
            MeetingCandidate("https://meet.google.com/x", "google_meet", "conference_data", 100),
            MeetingCandidate(_ZOOM, "zoom", "location", 70, "aB%2F1.x"),
            MeetingCandidate(_TEAMS, "microsoft_teams", "description", 50, "Äb3"),
        ),
        "source",
    ),
    (
        (
            MeetingCandidate(_ZOOM, "zoom", "description", 50, "aB%2F1.x"),
            MeetingCandidate('https://other.example/a"b', "unknown", "description", 50),
        ),
        "ambiguous",
    ),
]


@pytest.mark.parametrize(("candidates", "choice"), _FOUND)
async def test_content_is_made_as_the_engine_makes_it(
    config: Config, database_url: str, candidates: tuple[MeetingCandidate, ...], choice: Choice | None
) -> None:
    """So the first round after an upgrade finds nothing changed; and the way back loses nothing."""
    same = content.render(replace(_SAME, meeting_candidates=candidates, meeting_choice=choice))
    old = [{"url": c.url, "platform": c.platform, "source": c.source} for c in candidates]
    await asyncio.to_thread(command.downgrade, config, "0001")
    connection = await asyncpg.connect(database_url)
    await connection.execute(_OLD_ROW, new_id(), orjson.dumps(old).decode())
    [before] = await connection.fetch("SELECT * FROM calendar_events")
    await asyncio.to_thread(command.upgrade, config, "0004")
    [first] = await connection.fetch("SELECT content, content_hash FROM calendar_events")
    await asyncio.to_thread(command.upgrade, config, "head")
    [row] = await connection.fetch("SELECT content, content_hash FROM calendar_events")
    assert (row["content"], row["content_hash"]) == (same.text, same.digest)
    assert first["content_hash"] == same.digest
    await asyncio.to_thread(command.downgrade, config, "0004")
    [back] = await connection.fetch("SELECT content, content_hash FROM calendar_events")
    assert tuple(back) == tuple(first)
    await asyncio.to_thread(command.downgrade, config, "0001")
    [after] = await connection.fetch("SELECT * FROM calendar_events")
    await connection.close()
    assert {**after, "content_hash": b""} == {**before, "content_hash": b""}


async def names(url: str) -> set[str]:
    """The tables that exist."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


async def test_app_now_is_the_clock_unless_it_is_moved(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("SELECT set_config('punctual.clock_offset', '3600', true)")
        ahead = await connection.fetchval("SELECT extract(epoch FROM app_now() - clock_timestamp())")
    # After a SET LOCAL the setting is empty, not null.
    after = await connection.fetchval("SELECT extract(epoch FROM app_now() - clock_timestamp())")
    await connection.close()
    assert round(float(ahead)) == 3600
    assert abs(float(after)) < 1


_BEFORE_SCOPES = """
INSERT INTO projects (id, name) VALUES (gen_random_uuid(), 'p');
INSERT INTO api_keys (id, project_id, secret_hash) SELECT gen_random_uuid(), id, '' FROM projects;
INSERT INTO oauth_apps (id, project_id, platform, client_id) SELECT gen_random_uuid(), id, 'google', 'c' FROM projects;
INSERT INTO oauth_app_secrets (id, oauth_app_id, secret_sealed, created_at, last_worked_at, refused_at)
SELECT gen_random_uuid(), a.id, convert_to(s.name, 'UTF8'), now() - created, now() - worked, now() - refused
  FROM oauth_apps a, (VALUES
       ('worked long ago', interval '20 days', interval '10 days', CAST(NULL AS interval)),
       ('works', '9 days', '1 hour', NULL),
       ('refused', '1 day', NULL, '20 hours'), ('candidate', '2 hours', NULL, NULL)) s (name, created, worked, refused);
"""
_READING_KEY = """
INSERT INTO api_keys (id, project_id, name, scope, secret_hash)
SELECT gen_random_uuid(), id, 'r', 'read', '' FROM projects
"""


async def test_keys_and_secrets_mean_what_they_meant(config: Config, database_url: str) -> None:
    """A key of before may do everything; a key that may not is none to the release before."""
    await asyncio.to_thread(command.downgrade, config, "0007")
    connection = await asyncpg.connect(database_url)
    await connection.execute(_BEFORE_SCOPES)
    await asyncio.to_thread(command.upgrade, config, "head")
    assert await connection.fetchval("SELECT scope FROM api_keys") == "admin"
    tried = await connection.fetch(f"SELECT secret_sealed FROM oauth_app_secrets ORDER BY {TRIED_ORDER}")
    assert [row[0].decode() for row in tried] == ["candidate", "works", "worked long ago", "refused"]
    await connection.execute(_READING_KEY)
    await asyncio.to_thread(command.downgrade, config, "0007")
    assert await connection.fetchval("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") == 1
    await connection.close()
