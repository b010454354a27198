"""Graph's face of the sandbox behaves as documented: ids, times, views, events of every kind, limits, errors."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from sandbox import Sandbox
from sandbox.microsoft.errors import ERRORS_ONLY
from sandbox.model import Attendee, Conference, EventDraft, Person
from tests.unit.sandbox.graph_client import IMMUTABLE, NOON, WINDOW, GraphClient, Json, bounds
from tests.unit.sandbox.graph_metadata import flaws

KEYS = """
    @odata.etag id createdDateTime lastModifiedDateTime changeKey categories transactionId originalStartTimeZone
    originalEndTimeZone iCalUId uid reminderMinutesBeforeStart isReminderOn hasAttachments subject bodyPreview
    importance sensitivity isAllDay isCancelled isOrganizer
    responseRequested seriesMasterId showAs type webLink onlineMeetingUrl
    isOnlineMeeting onlineMeetingProvider allowNewTimeProposals occurrenceId isDraft hideAttendees responseStatus body
    start end location locations recurrence attendees organizer onlineMeeting
"""


@pytest.fixture
async def graph() -> AsyncIterator[GraphClient]:
    """A sandbox in this process."""
    box = Sandbox.create()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://graph") as http:
        yield GraphClient(box, http)
    await box.close()


async def test_windows_are_exclusive_on_both_sides(graph: GraphClient) -> None:
    graph.add("Ends as it begins", start=NOON - timedelta(hours=1))
    graph.add("Begins as it ends", start=NOON + timedelta(hours=3))
    inside = graph.add("Inside", start=NOON + timedelta(hours=2, minutes=59))
    found = await graph.listed(None, IMMUTABLE, **bounds(NOON, NOON + timedelta(hours=3)))
    assert [event["id"] for event in found] == [inside]
    await graph.get(graph.view, expect=400)
    await graph.get(graph.view, expect=400, **bounds(NOON, NOON))
    await graph.get(graph.view, expect=400, **bounds(NOON, NOON + timedelta(days=1826)))


async def test_an_event_has_the_recorded_keys_and_types(graph: GraphClient) -> None:
    guests = (Attendee("guest@example.com", "Guest", "tentative"), Attendee("room@example.com", resource=True))
    link = Conference("teams", "https://teams.microsoft.com/meet/1?p=x")
    graph.add("Rich", attendees=guests, conference=link, location="Room 4", description="One\nTwo <3")
    graph.weekly()
    (rich, *_) = found = await graph.listed()
    assert list(rich) == KEYS.split()
    assert flaws(found, "[event]") == []
    assert rich["start"] == {"dateTime": "2026-11-02T12:00:00.0000000", "timeZone": "UTC"}
    assert rich["onlineMeeting"] == {"joinUrl": link.url}
    assert rich["attendees"][0]["status"] == {"response": "tentativelyAccepted", "time": "0001-01-01T00:00:00Z"}
    assert "One<br>\r\nTwo &lt;3" in rich["body"]["content"]
    (text, *_) = await graph.listed(None, 'outlook.body-content-type="text"')
    assert text["body"] == {"contentType": "text", "content": "One\r\nTwo <3"}
    whole = await graph.get(f"/v1.0/me/events/{rich['id']}")
    assert list(whole) == [
        "@odata.context",
        *KEYS.split(),
        "calendar@odata.associationLink",
        "calendar@odata.navigationLink",
    ]


async def test_zones(graph: GraphClient) -> None:
    graph.add(time_zone="Europe/Berlin")
    graph.add("Whole day", start=date(2026, 11, 3))
    graph.add("Custom", start=NOON + timedelta(days=2), zone_label="tzone://Microsoft/Custom")
    prefer = 'outlook.timezone="Pacific Standard Time"'
    timed, whole, custom = await graph.listed(None, prefer)
    assert timed["start"] == {"dateTime": "2026-11-02T04:00:00.0000000", "timeZone": "Pacific Standard Time"}
    assert whole["start"]["dateTime"] == "2026-11-03T00:00:00.0000000"
    assert (whole["isAllDay"], whole["end"]["dateTime"]) == (True, "2026-11-04T00:00:00.0000000")
    assert timed["originalStartTimeZone"] == "W. Europe Standard Time"
    assert custom["originalStartTimeZone"] == "tzone://Microsoft/Custom"
    answer = await graph.http.get(graph.view, params=bounds(*WINDOW), headers={"Prefer": f"{prefer}, {IMMUTABLE}"})
    assert answer.headers["Preference-Applied"] == f"{prefer}, {IMMUTABLE}"
    body = await graph.get(graph.view, 'outlook.timezone="Mars"', expect=400, **bounds(*WINDOW))
    assert body["error"]["code"] == "TimeZoneNotSupportedException"


async def test_a_series(graph: GraphClient) -> None:
    start = datetime(2026, 10, 21, 8, tzinfo=UTC)  # ten o'clock in Berlin's summer
    master = graph.add("Weekly", start=start, time_zone="Europe/Berlin", recurrence=("RRULE:FREQ=WEEKLY;COUNT=3",))
    moved = start + timedelta(days=7, hours=4)
    graph.world.update_instance(
        graph.id, master, start + timedelta(days=7, hours=1), start=moved, end=moved + timedelta(hours=1)
    )
    window = bounds(start - timedelta(days=1), start + timedelta(days=30))
    first, second, third = await graph.listed(None, IMMUTABLE, **window)
    assert [one["type"] for one in (first, second, third)] == ["occurrence", "exception", "occurrence"]
    assert [one["start"]["dateTime"][11:16] for one in (first, second, third)] == ["08:00", "12:00", "09:00"]
    assert second["originalStart"] == "2026-10-28T09:00:00Z"
    assert {one["seriesMasterId"] for one in (first, second, third)} == {master}
    assert len({one["uid"] for one in (first, second, third)}) == 1
    assert len({one["iCalUId"] for one in (first, second, third)}) == 3
    assert third["occurrenceId"] == f"OID.{master}.2026-11-04"
    shown = await graph.get(f"/v1.0/me/events/{master}", IMMUTABLE)
    assert shown["recurrence"] == {
        "pattern": {
            "type": "weekly",
            "interval": 1,
            "month": 0,
            "dayOfMonth": 0,
            "daysOfWeek": ["wednesday"],
            "firstDayOfWeek": "sunday",
            "index": "first",
        },
        "range": {
            "type": "numbered",
            "startDate": "2026-10-21",
            "endDate": "0001-01-01",
            "recurrenceTimeZone": "W. Europe Standard Time",
            "numberOfOccurrences": 3,
        },
    }
    graph.world.cancel_instance(graph.id, master, start + timedelta(days=14, hours=1))
    assert len(await graph.listed(f"/v1.0/me/events/{master}/instances", **window)) == 2
    extra: Json = {"_select": "subject,cancelledOccurrences", "_expand": "exceptionOccurrences"}
    shown = await graph.get(f"/v1.0/me/events/{master}", IMMUTABLE, **extra)
    assert shown["cancelledOccurrences"] == [f"OID.{master}.2026-11-04"]
    assert [one["type"] for one in await graph.listed(f"{graph.calendar}/events")] == ["seriesMaster"]


async def test_an_ordinary_id_changes_with_the_calendar(graph: GraphClient) -> None:
    event = graph.add()
    other = graph.world.add_calendar(graph.account, "Other")
    (before,) = await graph.listed()
    graph.world.move_event(graph.id, event, other.id)
    (after,) = await graph.listed(f"/v1.0/me/calendars/{other.id}/calendarView")
    assert before["id"] != after["id"]
    assert before["id"].startswith("AAMkAD")
    await graph.get(f"/v1.0/me/events/{before['id']}", expect=404)
    assert (await graph.get(f"/v1.0/me/events/{after['id']}", IMMUTABLE))["id"] == event
    assert (await graph.get(f"/v1.0/me/events/{event}"))["id"] == after["id"]
    await graph.get("/v1.0/me/events/nonsense", expect=400)


async def test_pages_go_by_offset(graph: GraphClient) -> None:
    for number in range(12):
        graph.add(f"Event {number:02}", start=NOON - timedelta(minutes=number))
    page = await graph.get(graph.view, **bounds(*WINDOW))
    assert len(page["value"]) == 10
    assert page["@odata.nextLink"].startswith(f"http://graph{graph.view}?")
    assert len((await graph.get(page["@odata.nextLink"]))["value"]) == 2
    found = await graph.listed(None, "odata.maxpagesize=5", _orderby="start/dateTime", _select="subject,start")
    assert [event["subject"] for event in found] == [f"Event {number:02}" for number in reversed(range(12))]
    assert set(found[0]) == {"@odata.etag", "id", "subject", "start"}
    await graph.get(graph.view, expect=400, **bounds(*WINDOW), _select="title")
    await graph.get(graph.view, expect=400, **bounds(*WINDOW), _top="0")
    await graph.get(graph.view, expect=400, **bounds(*WINDOW), _filter="isAllDay eq true")


async def test_called_off_shown_as_and_sensitive(graph: GraphClient) -> None:
    graph.add("Canceled: Planning", called_off=True)
    graph.add("Away", show_as="oof", sensitivity="personal", start=NOON + timedelta(hours=2))
    graph.add("Secret", visibility="private", transparency="transparent", start=NOON + timedelta(hours=4))
    off, away, secret = await graph.listed()
    assert (off["isCancelled"], off["showAs"]) == (True, "free")
    assert (away["showAs"], away["sensitivity"]) == ("oof", "personal")
    assert (secret["showAs"], secret["sensitivity"]) == ("free", "private")


async def test_somebody_elses_meeting(graph: GraphClient) -> None:
    guests = (Attendee(graph.account.email, None, "accepted"), Attendee("other@example.com"))
    graph.add(organizer=Person("boss@example.com", "Boss"), attendees=guests, hide_attendees=True)
    (event,) = await graph.listed()
    assert (event["isOrganizer"], event["responseStatus"]["response"]) == (False, "accepted")
    assert event["organizer"] == {"emailAddress": {"name": "Boss", "address": "boss@example.com"}}
    assert [one["emailAddress"]["address"] for one in event["attendees"]] == [graph.account.email]


async def test_shared_calendars(graph: GraphClient) -> None:
    owner = graph.world.add_account("owner@contoso.example", provider="microsoft")
    path = f"/v1.0/me/calendars/{owner.calendar_id}"
    await graph.get(path, expect=404)
    graph.world.share(owner.calendar_id, graph.account.email, "reader")
    draft: Json = {"start": NOON, "end": NOON + timedelta(hours=1)}
    event = graph.world.create_event(owner.calendar_id, EventDraft(title="Open", **draft))
    graph.world.create_event(owner.calendar_id, EventDraft(title="Closed", visibility="private", **draft))
    mine, theirs = (await graph.get("/v1.0/me/calendars"))["value"]
    assert (mine["isDefaultCalendar"], mine["canEdit"]) == (True, True)
    assert (theirs["isDefaultCalendar"], theirs["canEdit"], theirs["owner"]["address"]) == (False, False, owner.email)
    assert [one["subject"] for one in await graph.listed(f"{path}/calendarView")] == ["Open", "Private Appointment"]
    await graph.get(f"/v1.0/me/events/{event.id}", expect=404)
    assert (await graph.get(f"{path}/events/{event.id}"))["subject"] == "Open"
    await graph.get(f"/v1.0/users/{owner.email}/calendars", expect=403)
    graph.world.delete_calendar(owner.calendar_id)
    await graph.get(path, expect=404)


async def test_who_is_asking(graph: GraphClient) -> None:
    me = await graph.get("/v1.0/me")
    assert (me["id"], me["mail"], me["userPrincipalName"]) == (graph.account.subject, *[graph.account.email] * 2)
    assert (await graph.get(f"/v1.0/users/{me['id']}/calendar"))["id"] == graph.id
    graph.http.headers["Authorization"] = "Bearer nonsense"
    body = await graph.get("/v1.0/me", expect=401)
    assert body["error"]["code"] == "InvalidAuthenticationToken"
    assert set(body["error"]["innerError"]) == {"date", "request-id", "client-request-id"}
    graph.account.refresh_token = graph.world.issue_refresh_token(graph.account, scopes=("User.Read",))
    graph.sign_in()
    assert (await graph.get(graph.view, expect=403, **bounds(*WINDOW)))["error"]["code"] == "ErrorAccessDenied"
    google = graph.world.add_account("person@example.com")
    grant = graph.world.grants[google.refresh_token]
    graph.http.headers["Authorization"] = f"Bearer {graph.world.issue_access_token(grant).token}"
    await graph.get("/v1.0/me", expect=401)


async def test_personal_accounts() -> None:
    box = Sandbox.create()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://graph") as http:
        graph = GraphClient(box, http, email="person@outlook.com")
        graph.add()
        (event,) = await graph.listed()
        assert event["id"].startswith("AQMkAD")
        assert event["webLink"].startswith("https://outlook.live.com/owa/?itemid=AQMkAD")
        (calendar,) = (await graph.get("/v1.0/me/calendars"))["value"]
        assert (calendar["id"], calendar["allowedOnlineMeetingProviders"]) == (graph.id, ["unknown"])
        assert graph.account.tenant == "9188040d-6c67-4c5b-b112-36a304b66dad"


async def test_more_than_ten_calendars(graph: GraphClient) -> None:
    graph.world.add_calendar(graph.account, "Birthdays", kind="birthday")
    for number in range(10):
        graph.world.add_calendar(graph.account, f"Calendar {number}")
    first = await graph.get("/v1.0/me/calendars")
    second = await graph.get(first["@odata.nextLink"])
    assert [len(page["value"]) for page in (first, second)] == [10, 2]
    assert flaws(first["value"], "[calendar]") == []
    assert [(one["canEdit"], one["canShare"]) for one in first["value"][:2]] == [(True, True), (False, False)]
    assert "@odata.nextLink" not in await graph.get("/v1.0/me/calendars", _top="50")


async def test_the_providers_do_not_take_each_others_tokens(graph: GraphClient) -> None:
    await graph.get("/oauth2/v3/userinfo", expect=401)
    form = {
        "grant_type": "refresh_token",
        "client_id": graph.account.client_id,
        "client_secret": graph.account.client_secret,
        "refresh_token": graph.account.refresh_token,
    }
    assert (await graph.http.post("/token", data=form)).status_code == 400


async def test_the_fifth_request_at_once_is_refused(graph: GraphClient) -> None:
    gate = graph.box.faults.gate("graph.calendarView")
    tasks = [asyncio.create_task(graph.http.get(graph.view, params=bounds(*WINDOW))) for _ in range(4)]
    while gate.waiting < 4:
        await asyncio.sleep(0)
    fifth = await graph.http.get(graph.calendar)
    assert (fifth.status_code, fifth.headers["Retry-After"]) == (429, "1")
    assert fifth.json()["error"]["code"] == "ApplicationThrottled"
    assert (await graph.get("/v1.0/me"))["id"]  # not of the mailbox
    gate.release()
    assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200}
    assert graph.box.requests.mailbox_peak(graph.account.email) == 5
    told = await graph.get("/_sandbox/requests")
    assert [(one["email"], one["now"], one["peak"]) for one in told["mailboxes"]] == [(graph.account.email, 0, 5)]


@pytest.mark.parametrize("kind", ERRORS_ONLY)
async def test_each_error_strikes_once(graph: GraphClient, kind: str) -> None:
    graph.box.faults.add(kind, "graph.calendarView", retry_after=7)
    first = await graph.http.get(graph.view, params=bounds(*WINDOW))
    assert first.status_code >= 400 or first.content.endswith(b"#")
    assert first.headers["Retry-After"] == "7"
    assert "request-id" in first.headers
    await graph.get(graph.view, **bounds(*WINDOW))


async def test_errors_that_depend(graph: GraphClient) -> None:
    faults: Any = graph.box.faults
    faults.add("gateway_timeout", times=None, above=20)
    answer = await graph.get(graph.view, expect=504, **bounds(*WINDOW), _top="50")
    assert (answer["error"]["code"], answer["error"]["message"]) == ("UnknownError", "")
    await graph.get(graph.view, **bounds(*WINDOW), _top="20")
    faults.clear()
    faults.add("mailbox_not_enabled", times=None, seconds=600)
    body = await graph.get("/v1.0/me/calendars", expect=404)
    assert body["error"]["code"] == "MailboxNotEnabledForRESTAPI"
    graph.world.clock.advance(timedelta(minutes=11))
    await graph.get("/v1.0/me/calendars")
    await graph.get("/v1.0/me/messages", expect=400)


@pytest.mark.parametrize(
    ("rule", "pattern", "extent"),
    [
        ("FREQ=DAILY;INTERVAL=2", {"type": "daily", "interval": 2}, {"type": "noEnd", "endDate": "0001-01-01"}),
        ("FREQ=WEEKLY;BYDAY=MO,FR", {"type": "weekly", "daysOfWeek": ["monday", "friday"]}, {"type": "noEnd"}),
        ("FREQ=MONTHLY;COUNT=3", {"type": "absoluteMonthly", "dayOfMonth": 2}, {"numberOfOccurrences": 3}),
        (
            "FREQ=MONTHLY;BYDAY=-1MO;UNTIL=20270101T000000Z",
            {"type": "relativeMonthly", "daysOfWeek": ["monday"], "index": "last"},
            {"type": "endDate", "endDate": "2027-01-01"},
        ),
        ("FREQ=YEARLY", {"type": "absoluteYearly", "month": 11, "dayOfMonth": 2}, {"startDate": "2026-11-02"}),
        ("FREQ=YEARLY;BYMONTH=11;BYDAY=MO;BYSETPOS=1", {"type": "relativeYearly", "index": "first"}, {}),
    ],
)
async def test_patterns(graph: GraphClient, rule: str, pattern: Json, extent: Json) -> None:
    master = graph.add(recurrence=(f"RRULE:{rule}",))
    recurrence = (await graph.get(f"/v1.0/me/events/{master}"))["recurrence"]
    assert flaws(recurrence, "patternedRecurrence") == []
    assert recurrence["pattern"] | pattern == recurrence["pattern"]
    assert recurrence["range"] | extent == recurrence["range"]


async def test_a_body_that_is_markup(graph: GraphClient) -> None:
    markup = "<html><head><style>p {}</style></head><body><p>One &amp; two</p>\n<p>Three<br>four</p></body></html>"
    graph.add(description=markup, description_type="html")
    graph.add(conference=Conference("zoom", "https://zoom.us/j/1"), start=NOON + timedelta(hours=1))
    event, linked = await graph.listed(None, 'outlook.body-content-type="text"')
    assert event["body"]["content"] == "One & two\r\nThree\r\nfour"
    assert (linked["body"]["content"], linked["onlineMeeting"]) == ("https://zoom.us/j/1", None)
    assert (await graph.listed())[0]["body"] == {"contentType": "html", "content": markup}


async def test_google_and_microsoft_share_one_world(graph: GraphClient) -> None:
    """The control surface makes both kinds of account."""
    made = (await graph.http.post("/_sandbox/seed", json={"count": 20, "providers": ["google", "microsoft"]})).json()
    assert [one["provider"] for one in made["accounts"]] == ["google"] * 2 + ["microsoft"] * 2
    window: Json = {"from": (graph.world.clock.now() - timedelta(days=1)).isoformat(), "to": "2099-01-01T00:00:00Z"}
    for one in made["accounts"]:
        told = await graph.get(f"/_sandbox/calendars/{one['calendar_id']}/instances", **window)
        assert len(told["instances"]) > 10
    ids = {one["email"]: one["calendar_id"] for one in made["accounts"]}
    assert all((email == calendar) == email.endswith("@sandbox.example") for email, calendar in ids.items())
