"""An application made by Attendee's guide to calendars, pointed at Punctual.

It takes the steps of https://docs.attendee.dev/guides/calendar-integration in their order: connect a calendar, work on
`calendar.events_update` and `calendar.state_change`, fetch by `updated_after`, schedule and unschedule bots, reconnect.
Paths, fields and filters are Attendee's. Every line that has to differ says CHANGED, and why.
"""

from functools import partial

from punctual import Api, Inbox, Json, Problem
from stage import Person, Place, check, in_days, instant, play, say

PLANNING_LINK = "https://meet.google.com/abc-defg-hij"
REVIEW_LINK = "https://zoom.us/j/91234567890?pwd=aB3dE1"


class Application:
    """Records every meeting of its users unless they say no. Its database is a few dicts, which webhooks fill."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.calendars: dict[str, Json] = {}
        self.synced_to: dict[str, str] = {}
        """Up to when each calendar is known: the guide's column for the time of the last sync."""
        self.events: dict[str, Json] = {}
        self.bots: dict[str, Json] = {}
        self.scheduled: dict[str, str] = {}
        """Events that a bot was made for, and its id."""

    def create_webhook(self, url: str) -> Json:
        """The endpoint, with the secret that signs."""
        # CHANGED: made on Attendee's page Settings → Webhooks; here by a call, which shows the secret this once.
        triggers = ["calendar.events_update", "calendar.state_change", "bot.state_change"]
        return self._api.post("/webhooks", {"url": url, "triggers": triggers})

    def oauth_callback(self, user_id: str, client_id: str, client_secret: str, refresh_token: str) -> Json:
        """A user has agreed, for the first time or anew: connect the calendar. Its row in our database."""
        body = {
            "platform": "google",
            "client_id": client_id,
            "client_secret": client_secret,
            "refresh_token": refresh_token,
            "deduplication_key": user_id,
            "metadata": {"user_id": user_id},
        }
        try:
            calendar = self._api.post("/calendars", body)
        except Problem as problem:
            # CHANGED: a key that is taken is a 400 of Attendee's. Here it is a 409, which names the calendar.
            if problem.code != "deduplication_key_in_use":
                raise
            calendar = self._api.patch(f"/calendars/{problem.existing_id}", {"refresh_token": refresh_token})
        self.calendars[calendar["id"]] = calendar
        return calendar

    def handle(self, message: Json) -> None:
        """One webhook. CHANGED: its signature is in the `webhook-*` headers, see `is_genuine` in punctual.py."""
        if message["trigger"] == "bot.state_change":
            # CHANGED: Attendee has `bot_id` beside `data`; here the bot itself is in `data`.
            self._update_bot(message["data"]["bot"])
        elif message["calendar_id"] not in self.calendars:
            return
        elif message["trigger"] == "calendar.state_change":
            # CHANGED: Attendee tells of a disconnection alone; here a reconnection is told, too.
            self.calendars[message["calendar_id"]] |= message["data"]
        elif message["trigger"] == "calendar.events_update":
            self._sync(message["calendar_id"])

    def _sync(self, calendar_id: str) -> None:
        query = {"calendar_id": calendar_id}
        if calendar_id in self.synced_to:
            query["updated_after"] = self.synced_to[calendar_id]
        page = self._api.get("/calendar_events", **query)
        while True:
            for event in page["results"]:
                self._save(event)
            if page["next"] is None:
                return
            page = self._api.get(page["next"])

    def _save(self, event: Json) -> None:
        self.events[event["id"]] = event
        # CHANGED: not our own clock says up to when a calendar is known, but the latest `updated_at` that we have read.
        # So nothing is missed that is committed while we read.
        calendar_id = event["calendar_id"]
        self.synced_to[calendar_id] = max(self.synced_to.get(calendar_id, ""), event["updated_at"])
        if event["meeting_url"] and not event["is_deleted"] and event["id"] not in self.scheduled:
            self._schedule(event)

    def _schedule(self, event: Json) -> None:
        body = {
            "calendar_event_id": event["id"],
            "bot_name": "Notes",
            "deduplication_key": event["id"],
            "metadata": {"event": event["name"]},
            # CHANGED: what a bot does in its meeting stands in `config`. For Attendee this line was
            # "recording_settings": {"format": "mp4", "view": "gallery_view"}
            "config": {"recording": "gallery_view"},
        }
        bot = self._api.post("/bots", body)
        self.scheduled[event["id"]] = bot["id"]
        self.bots[bot["id"]] = bot

    def _update_bot(self, bot: Json) -> None:
        known = self.bots.get(bot["id"])
        if known is not None and bot["updated_at"] >= known["updated_at"]:  # messages may overtake each other
            self.bots[bot["id"]] = bot

    def unschedule(self, event_id: str) -> None:
        """The user wants no bot there."""
        # CHANGED: 204 without a body, where Attendee answers 200. The bot stays readable, as cancelled.
        self._api.delete(f"/bots/{self.scheduled[event_id]}")

    def request_sync(self, calendar_id: str) -> None:
        """Any PATCH asks for one, at Attendee too."""
        self._api.patch(f"/calendars/{calendar_id}", {"metadata": self.calendars[calendar_id]["metadata"]})

    def disconnect(self, calendar_id: str) -> None:
        """The user leaves."""
        self._api.delete(f"/calendars/{calendar_id}")  # CHANGED: 204, too

    def event(self, name: str) -> Json:
        """What our database has of the event of this name; empty where it has none."""
        return next((event for event in self.events.values() if event["name"] == name), {})

    def bot(self, name: str) -> Json:
        """What our database has of that event's bot."""
        return self.bots.get(self.scheduled.get(self.event(name).get("id", ""), ""), {})


def flow(place: Place) -> None:
    """The guide from its beginning to its end, and what happens to a calendar afterwards."""
    ada = Person(place.sandbox_url, "google", "example.com")
    planning = ada.plan("Planning", in_days(2), PLANNING_LINK)
    review = ada.plan("Review", in_days(3), REVIEW_LINK)
    ada.plan("Dentist", in_days(4), "12 Main Street")

    api = Api(place.base_url, place.key)  # CHANGED: base URL and key
    application = Application(api)
    with Inbox() as inbox:
        wait = partial(inbox.handle_until, application.handle)
        endpoint = application.create_webhook(inbox.url)
        inbox.secret = endpoint["secret"]
        say("a webhook endpoint is there")

        calendar = application.oauth_callback(ada.email, ada.client_id, ada.client_secret, ada.refresh_token)
        wait(lambda: len(application.events) == 3, "the events of a new calendar")
        recorded = {application.events[event_id]["name"] for event_id in application.scheduled}
        check("events with a bot", seen=recorded, expected={"Planning", "Review"})
        say(f"{calendar['id']} is connected: 3 events, and a bot for each of the 2 that have a link")

        again = application.oauth_callback(ada.email, ada.client_id, ada.client_secret, ada.consent_again())
        check("the calendar after a second sign-in", seen=again["id"], expected=calendar["id"])
        say("Ada signed in again: the same calendar")

        ada.move(planning, in_days(5))
        wait(lambda: application.event("Planning")["start_time"] == instant(in_days(5)), "the new time of an event")
        (bot,) = application.event("Planning")["bots"]
        check("when its bot joins", seen=bot["join_at"], expected=instant(in_days(5)))
        say("she moved Planning, and its bot went along")

        application.unschedule(application.event("Review")["id"])
        wait(lambda: application.bot("Review")["state"] == "cancelled", "the end of a bot")
        say("she wants no bot in Review: it is cancelled")

        ada.cancel(review)
        wait(lambda: bool(application.event("Review")["is_deleted"]), "the end of an event")
        say("she cancelled Review: the event is_deleted")

        ada.take_back_consent()
        application.request_sync(calendar["id"])
        wait(lambda: application.calendars[calendar["id"]]["state"] == "disconnected", "a disconnection")
        wait(lambda: application.bot("Planning")["state"] == "cancelled", "the end of a disconnected calendar's bot")
        reason = application.calendars[calendar["id"]]["connection_failure_data"]["code"]
        say(f"she took her consent back: the calendar is disconnected ({reason}), Planning's bot cancelled")

        application.oauth_callback(ada.email, ada.client_id, ada.client_secret, ada.consent_again())
        # CHANGED: Attendee has deleted the bots by now, and they are to be made again. Here the same one comes back.
        wait(lambda: application.bot("Planning")["state"] == "scheduled", "the return of a bot")
        check("the bot that came back", seen=application.bot("Planning")["id"], expected=bot["id"])
        say("she agreed again: connected, with the same bot")

        application.disconnect(calendar["id"])
        wait(lambda: application.bot("Planning")["state"] == "cancelled", "the end of a deleted calendar's bot")
        api.delete(f"/webhooks/{endpoint['id']}")
        say("she left: the calendar is deleted, and its last bot cancelled")


if __name__ == "__main__":
    play(flow, "Attendee's calendar guide on Punctual")
