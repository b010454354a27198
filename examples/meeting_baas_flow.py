"""An application made by Meeting BaaS' v2 guide to calendars, pointed at Punctual.

It takes the steps of https://docs.meetingbaas.com/docs/api-v2/getting-started/calendars: list a user's calendars,
create a connection, work on webhooks about created, updated and cancelled events, schedule bots for one event and for a
series, update and remove them, update the credentials. Every line that has to differ says CHANGED, and why; where that
is a name alone, the comment is that of Meeting BaaS. Answers have no `{"success": …, "data": …}` around them here.
"""

from functools import partial

from punctual import Api, Inbox, Json
from stage import Person, Place, check, in_days, instant, play, say

WEEKLY_LINK = "https://meet.google.com/wee-klym-eet"
KICK_OFF_LINK = "https://zoom.us/j/92345678901?pwd=Kq7wE2"


class Application:
    """Its users pick the meetings that are recorded, one by one or a whole series."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.calendars: dict[str, Json] = {}
        self.events: dict[str, Json] = {}
        self.cancelled: set[str] = set()
        """Events that their calendars no longer show."""

    def connect(self, user: Person) -> Json:
        """List what the user's grant opens, and create a connection to the primary calendar."""
        credentials = {
            "platform": "google",  # CHANGED: calendar_platform
            "client_id": user.client_id,  # CHANGED: oauth_client_id
            "client_secret": user.client_secret,  # CHANGED: oauth_client_secret
            "refresh_token": user.refresh_token,  # CHANGED: oauth_refresh_token
        }
        listed = self._api.post("/calendars/raw", credentials)["results"]  # CHANGED: /v2/calendars/list-raw, data
        primary = next(one for one in listed if one["is_primary"])
        body = {
            **credentials,
            "platform_uuid": primary["platform_uuid"],  # CHANGED: raw_calendar_id, and the listed calendar's `id`
            "deduplication_key": user.email,  # CHANGED: new; a second connection is refused by 409, as it is there
            "verify": True,  # CHANGED: new; asks the provider before it answers, which Meeting BaaS does always
        }
        calendar = self._api.post("/calendars", body)  # CHANGED: /v2/calendars
        self.calendars[calendar["id"]] = calendar  # CHANGED: calendar_id
        return calendar

    def update_credentials(self, calendar_id: str, oauth_refresh_token: str) -> None:
        """The user has agreed again. PATCH, as there; the client's id stays."""
        self._api.patch(f"/calendars/{calendar_id}", {"refresh_token": oauth_refresh_token})

    def handle(self, message: Json) -> None:
        """One webhook, whose signature is verified.

        CHANGED: Svix' headers `svix-*` are `webhook-*` here, the Standard Webhooks that Svix' libraries verify as well.
        """
        calendar_id = message["calendar_id"]  # CHANGED: data.calendar_id
        if calendar_id not in self.calendars:
            return
        data = message["data"]
        if message["trigger"] == "calendar.state_change":
            # CHANGED: calendar.connection_error, calendar.connection_updated
            self.calendars[calendar_id] |= data
        elif message["trigger"] == "calendar.events_update":
            # CHANGED: one message for all that changed in one go. Meeting BaaS sends one for each event or series, and
            # calendar.events_synced once. This one names events; what they are now is read from the API.
            ids = [entry["id"] for entry in data["events"]]
            for event in self._all(calendar_id) if data["truncated"] else map(self._read, ids):
                self._take(event)

    def _take(self, event: Json) -> None:
        self.events[event["id"]] = event  # CHANGED: event_id
        if event["is_deleted"] or event["status"] == "cancelled":
            self.cancelled.add(event["id"])  # CHANGED: calendar.event_cancelled
        else:
            self.cancelled.discard(event["id"])  # CHANGED: calendar.event_created, calendar.event_updated

    def _read(self, event_id: str) -> Json:
        return self._api.get(f"/calendar_events/{event_id}")  # CHANGED: /v2/calendars/{id}/events/{event_id}

    def _all(self, calendar_id: str) -> list[Json]:
        return self._api.list_all("/calendar_events", calendar_id=calendar_id)  # CHANGED: /v2/calendars/{id}/events

    def schedule(self, event: Json, *, all_occurrences: bool = False) -> Json:
        """A bot for an event, or for each of its series."""
        key = event["series_id"] if all_occurrences else event["id"]
        body = {
            # CHANGED: event_id, for a series too: any occurrence names it, and series_id is not sent.
            "calendar_event_id": event["id"],
            "all_occurrences": all_occurrences,
            "deduplication_key": key,  # CHANGED: new; who asks twice gets a 409
            "bot_name": "Notetaker",
            "metadata": {"customer": "17"},  # CHANGED: extra
            "config": {"recording": "speaker_view"},  # CHANGED: recording_mode, beside bot_name
        }
        return self._api.post("/bots", body)  # CHANGED: /v2/calendars/{id}/bots

    def rename(self, bot: Json, name: str) -> None:
        """All bots of a series that are ahead."""
        # CHANGED: PATCH /v2/calendars/{id}/bots with series_id and all_occurrences in the body
        self._api.patch(f"/bots/{bot['id']}?all_occurrences=true", {"bot_name": name})

    def unschedule(self, bot: Json, *, all_occurrences: bool = False) -> None:
        """One bot, or all of its series."""
        # CHANGED: DELETE /v2/calendars/{id}/bots with event_id or series_id in the body
        self._api.delete(f"/bots/{bot['id']}" + ("?all_occurrences=true" if all_occurrences else ""))

    def request_sync(self, calendar_id: str) -> None:
        """Look now."""
        self._api.post(f"/calendars/{calendar_id}/sync", {})

    def disconnect(self, calendar_id: str) -> None:
        """The user leaves; the bots end with the calendar, as they do there."""
        self._api.delete(f"/calendars/{calendar_id}")  # CHANGED: 204, without a body

    def named(self, name: str) -> list[Json]:
        """The events of this name, in the order of their starts."""
        found = [event for event in self.events.values() if event["name"] == name]
        return sorted(found, key=lambda event: str(event["start_time"]))

    def bots(self, calendar_id: str) -> list[Json]:
        """Those that will join, in the order in which they do."""
        found = self._api.list_all("/bots", calendar_id=calendar_id, state="scheduled")
        return sorted(found, key=lambda bot: str(bot["join_at"]))


def flow(place: Place) -> None:
    """The guide from its beginning to its end, and what happens to a calendar afterwards."""
    ada = Person(place.sandbox_url, "google", "example.com")
    weeks = [in_days(2), in_days(9), in_days(16)]
    weekly = ada.plan("Weekly", weeks[0], WEEKLY_LINK, recurrence=["RRULE:FREQ=WEEKLY;COUNT=3"])

    api = Api(place.base_url, place.key)  # CHANGED: base URL and key, which goes into `Authorization: Token …`
    application = Application(api)
    with Inbox() as inbox:
        wait = partial(inbox.handle_until, application.handle)
        # CHANGED: endpoints are made in the settings of the account; here by a call, which shows the secret this once.
        triggers = ["calendar.events_update", "calendar.state_change"]
        endpoint = api.post("/webhooks", {"url": inbox.url, "triggers": triggers})
        inbox.secret = endpoint["secret"]
        say("a webhook endpoint is there")

        calendar = application.connect(ada)
        id_ = calendar["id"]
        wait(lambda: len(application.named("Weekly")) == 3, "the events of a new calendar")
        say(f"{id_} is connected: a series of 3")

        bot = application.schedule(application.named("Weekly")[0], all_occurrences=True)
        times = [one["join_at"] for one in application.bots(id_)]
        check("when the bots of a series join", seen=times, expected=[instant(week) for week in weeks])
        application.rename(bot, "Minutes")
        names = {one["bot_name"] for one in application.bots(id_)}
        check("the names of the bots of a series", seen=names, expected={"Minutes"})
        say("one call made a bot for each of the 3, another renamed them")

        later = weeks[1].replace(hour=15)
        ada.move(weekly, later, occurrence=weeks[1])
        wait(lambda: application.named("Weekly")[1]["start_time"] == instant(later), "the new time of an occurrence")
        times = [one["join_at"] for one in application.bots(id_)]
        check("when they join then", seen=times, expected=[instant(time) for time in (weeks[0], later, weeks[2])])
        say("she moved one occurrence: its bot went along, the others stayed")

        ada.plan("Kick-off", in_days(5), KICK_OFF_LINK)
        wait(lambda: len(application.named("Kick-off")) == 1, "a new event")
        single = application.schedule(application.named("Kick-off")[0])
        application.unschedule(single)
        application.unschedule(application.bots(id_)[2])
        times = [one["join_at"] for one in application.bots(id_)]
        check("when the others join", seen=times, expected=[instant(time) for time in (weeks[0], later)])
        say("a bot for a single event, unscheduled again, as was that of one occurrence: 2 are left")

        ada.take_back_consent()
        application.request_sync(id_)
        wait(lambda: application.calendars[id_]["state"] == "disconnected", "a disconnection")
        # CHANGED: `status` revoked, permission_denied or error, with a message
        reason = application.calendars[id_]["connection_failure_data"]["code"]
        check("bots of a disconnected calendar", seen=application.bots(id_), expected=[])
        say(f"she took her consent back: the calendar is disconnected ({reason}), its bots cancelled")

        application.update_credentials(id_, ada.consent_again())
        wait(lambda: application.calendars[id_]["state"] == "connected", "a reconnection")
        check("bots after it", seen=[one["join_at"] for one in application.bots(id_)], expected=times[:2])
        say("she agreed again: connected, with the bots that were left; those unscheduled stay away")

        ada.cancel(weekly)
        wait(lambda: len(application.cancelled) == 3, "the end of a series")
        check("bots of a cancelled series", seen=application.bots(id_), expected=[])
        say("she cancelled the series: its bots are cancelled")

        application.unschedule(bot, all_occurrences=True)
        application.disconnect(id_)
        api.delete(f"/webhooks/{endpoint['id']}")
        say("she left: the calendar is deleted")


if __name__ == "__main__":
    play(flow, "Meeting BaaS' calendar guide on Punctual")
