"""Examples of calendars and events for the OpenAPI document; tests hold them against the schemas."""

from typing import Final

from app.api.operations import body_examples

CALENDAR: Final = {
    "id": "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "platform": "google",
    "client_id": "1234-abcd.apps.googleusercontent.com",
    "oauth_app_id": "oapp_01JD4Q8ZK3X0C2F4H6K8M0P2R4",
    "platform_uuid": None,
    "email": "ada@example.com",
    "name": "Ada",
    "time_zone": "Europe/Berlin",
    "state": "connected",
    "metadata": {"tenant_id": "1"},
    "deduplication_key": "user-abcd",
    "connection_failure_data": None,
    "health": {
        "status": "healthy",
        "reason": None,
        "since": None,
        "push": {
            "active": True,
            "expires_at": "2026-11-27T10:00:00.000000Z",
            "last_notification_at": "2026-11-20T09:58:12.402551Z",
        },
        "lag_seconds": 0,
        "audit_found_changes": 0,
    },
    "created_at": "2026-11-20T09:00:00.000000Z",
    "updated_at": "2026-11-20T09:00:01.250000Z",
    "last_successful_sync_at": "2026-11-20T09:58:13.731920Z",
    "last_attempted_sync_at": "2026-11-20T09:58:13.410022Z",
}

_CREDENTIALS: Final = {
    "platform": "google",
    "client_id": "1234-abcd.apps.googleusercontent.com",
    "client_secret": "GOCSPX-…",
    "refresh_token": "1//0g…",
}

_BY_APP: Final = {
    "platform": "google",
    "oauth_app_id": "oapp_01JD4Q8ZK3X0C2F4H6K8M0P2R4",
    "refresh_token": "1//0g…",
}

CREATE: Final = body_examples(
    primary=_CREDENTIALS | {"deduplication_key": "user-abcd", "metadata": {"tenant_id": "1"}},
    by_app=_BY_APP | {"deduplication_key": "user-abcd"},
    chosen=_CREDENTIALS | {"platform_uuid": "team@group.calendar.google.com", "verify": True},
)

RAW: Final = body_examples(google=_CREDENTIALS, by_app=_BY_APP)
SYNC: Final = body_examples(changes={}, full={"full": True})
PATCH: Final = body_examples(reconnect={"refresh_token": "1//0h…"}, retry={}, new_secret={"client_secret": "GOCSPX-…"})

REMOTE: Final = {
    "platform_uuid": "ada@example.com",
    "name": "Ada",
    "email": "ada@example.com",
    "is_primary": True,
    "access_role": "owner",
    "time_zone": "Europe/Berlin",
}

EVENT: Final = {
    "id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N3P",
    "calendar_id": "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "platform_uuid": "4q2nl7c1d6a5fj3k",
    "ical_uid": "4q2nl7c1d6a5fj3k@google.com",
    "name": "Weekly planning",
    "description": None,
    "location": None,
    "start_time": "2026-11-23T09:00:00.000000Z",
    "end_time": "2026-11-23T09:30:00.000000Z",
    "is_all_day": False,
    "start_date": None,
    "end_date": None,
    "time_zone": "Europe/Berlin",
    "status": "confirmed",
    "is_deleted": False,
    "visibility": "default",
    "transparency": "opaque",
    "event_type": "default",
    "organizer": {"email": "ada@example.com", "name": "Ada", "self": True},
    "creator": {"email": "ada@example.com", "name": "Ada", "self": True},
    "attendees": [
        {
            "email": "grace@example.com",
            "name": "Grace",
            "response_status": "accepted",
            "optional": False,
            "organizer": False,
            "self": False,
            "resource": False,
        }
    ],
    "own_response_status": "accepted",
    "series_id": None,
    "original_start_time": None,
    "is_exception": False,
    "meeting_url": "https://meet.google.com/abc-defg-hij",
    "meeting_platform": "google_meet",
    "meeting_candidates": [
        {
            "url": "https://meet.google.com/abc-defg-hij",
            "platform": "google_meet",
            "source": "conference_data",
            "score": 100,
            "passcode": None,
            "unwrapped_from": None,
        },
        {
            "url": "https://zoom.us/j/91234567890?pwd=aB3dE.1",
            "platform": "zoom",
            "source": "description",
            "score": 50,
            "passcode": "aB3dE.1",
            "unwrapped_from": "https://www.google.com/url?q=https%3A%2F%2Fzoom.us%2Fj%2F91234567890%3Fpwd%3DaB3dE.1",
        },
    ],
    "meeting_choice": "source",
    "html_link": "https://www.google.com/calendar/event?eid=NHEybmw3YzFkNmE1Zmozaw",
    "change_seq": 41,
    "bot_override": None,
    "raw": {"kind": "calendar#event", "id": "4q2nl7c1d6a5fj3k"},
    "is_raw_truncated": False,
    "bots": [],
    "created_at": "2026-11-20T09:00:01.250000Z",
    "updated_at": "2026-11-20T10:00:01.000000Z",
}
