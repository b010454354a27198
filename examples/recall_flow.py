"""An application made by Recall's guides to Calendar V2, pointed at Punctual.

It takes the steps of https://docs.recall.ai/docs/calendar-v2-integration-guide and of the scheduling guide behind it:
create a calendar, work on its webhooks, fetch events by `updated_at__gte`, decide for each whether it is recorded, add
and remove bots, update the calendar when its user has to agree again. Every line that has to differ says CHANGED, and
why; where that is a name alone, the comment is Recall's.
"""

from functools import partial

from punctual import Api, Inbox, Json, Problem
from stage import Person, Place, check, in_days, instant, play, say

LINK = "https://teams.microsoft.com/l/meetup-join/19%3ameeting_MjQ1%40thread.v2/0"
GUEST = {"email": "grace@customer.example", "name": "Grace"}
COLLEAGUE = {"email": "alan@contoso.example", "name": "Alan"}
LIVE = ("scheduled", "launching", "launched")


class Application:
    """Records meetings with people of other companies that its user has not declined."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.calendars: dict[str, Json] = {}
        self.events: dict[str, Json] = {}

    def connect(self, user_id: str, oauth_client_id: str, oauth_client_secret: str, oauth_refresh_token: str) -> Json:
        """Step 4 of the guide: create the calendar."""
        body = {
            "platform": "microsoft",  # CHANGED: microsoft_outlook (and google for google_calendar)
            "client_id": oauth_client_id,  # CHANGED: oauth_client_id
            "client_secret": oauth_client_secret,  # CHANGED: oauth_client_secret
            "refresh_token": oauth_refresh_token,  # CHANGED: oauth_refresh_token
            # CHANGED: new. Recall makes a second calendar if it is asked twice, so one had to look first.
            "deduplication_key": user_id,
        }
        calendar = self._api.post("/calendars", body)
        self.calendars[calendar["id"]] = calendar
        return calendar

    def reconnect(self, calendar_id: str, oauth_refresh_token: str) -> None:
        """The user has agreed again: update the calendar."""
        self._api.patch(f"/calendars/{calendar_id}", {"refresh_token": oauth_refresh_token})  # CHANGED: the name

    def retry(self, calendar_id: str) -> None:
        """An empty PATCH tries the connection, at Recall too."""
        self._api.patch(f"/calendars/{calendar_id}", {})

    def handle(self, message: Json) -> None:
        """Step 5: one webhook, whose signature is verified.

        CHANGED: Svix' headers `svix-*` are `webhook-*` here, the Standard Webhooks that Svix' libraries verify as well.
        """
        calendar_id = message["calendar_id"]  # CHANGED: data.calendar_id
        if calendar_id not in self.calendars:
            return
        if message["trigger"] == "calendar.state_change":  # CHANGED: event: calendar.update
            self.calendars[calendar_id] = self._api.get(f"/calendars/{calendar_id}")
        elif message["trigger"] == "calendar.events_update":  # CHANGED: event: calendar.sync_events
            if self.calendars[calendar_id]["email"] is None:  # CHANGED: platform_email; it comes with the first sync
                self.calendars[calendar_id] = self._api.get(f"/calendars/{calendar_id}")
            self._sync(calendar_id, message["data"]["last_updated_at"])  # CHANGED: data.last_updated_ts

    def _sync(self, calendar_id: str, last_updated: str | None) -> None:
        """Step 6: fetch what changed, all of it where the message is about no change (a calendar without events)."""
        query = {"calendar_id": calendar_id}
        if last_updated is not None:
            query["updated_at_gte"] = last_updated  # CHANGED: updated_at__gte
        for event in self._api.list_all("/calendar_events", **query):  # CHANGED: /calendar-events/
            self.events[event["id"]] = event
            if self._is_to_be_recorded(event):
                self._add_bot(event)
            else:
                self._remove_bot(event)

    def _is_to_be_recorded(self, event: Json) -> bool:
        """CHANGED: these facts had to be dug out of `raw`, which differs between Google and Microsoft."""
        if event["is_deleted"] or not event["meeting_url"]:
            return False
        own_domain = self.calendars[event["calendar_id"]]["email"].partition("@")[2]
        is_external = any(not guest["email"].endswith(f"@{own_domain}") for guest in event["attendees"])
        return is_external and event["own_response_status"] != "declined"

    def _add_bot(self, event: Json) -> None:
        """Step 7: called for each changed event; who calls it twice still has one bot."""
        wanted = {
            "bot_name": f"Notes of {event['name']}",  # CHANGED: bot_config.bot_name
            "config": {"recording": "gallery_view"},  # CHANGED: bot_config.recording_config.video_mixed_layout
        }
        # CHANGED: not {start_time}-{meeting_url}. A bot moves with its event here, so its key must not: with the start
        # in it, a moved event would get a second bot beside the one that moved.
        key = f"{event['ical_uid']}-{event['original_start_time'] or 'single'}"
        try:
            # CHANGED: POST /calendar-events/{id}/bot/
            self._api.post("/bots", {"calendar_event_id": event["id"], "deduplication_key": key, **wanted})
        except Problem as problem:
            # CHANGED: Recall overwrites the bot that there is. Here that is a PATCH of the one which the 409 names.
            if problem.code != "deduplication_key_in_use":
                raise
            self._api.patch(f"/bots/{problem.existing_id}", wanted)

    def _remove_bot(self, event: Json) -> None:
        for bot in event["bots"]:
            if bot["state"] in LIVE:
                self._api.delete(f"/bots/{bot['id']}")  # CHANGED: DELETE /calendar-events/{id}/bot/

    def disconnect(self, calendar_id: str) -> None:
        """The user leaves. Bots ahead end with the calendar, as at Recall."""
        self._api.delete(f"/calendars/{calendar_id}")

    def event(self, name: str) -> Json:
        """What our database has of the event of this name; empty where it has none."""
        return next((event for event in self.events.values() if event["name"] == name), {})

    def bots(self, name: str) -> list[Json]:
        """The live bots of that event, as they are now."""
        return self._api.list_all("/bots", calendar_event_id=self.event(name)["id"], state="scheduled")


def flow(place: Place) -> None:
    """Both guides from beginning to end, and what happens to a calendar afterwards."""
    ada = Person(place.sandbox_url, "microsoft", "contoso.example")
    demo = ada.plan("Demo", in_days(2), LINK, attendees=[GUEST, COLLEAGUE])
    ada.plan("Stand-up", in_days(3), LINK, attendees=[COLLEAGUE])

    api = Api(place.base_url, place.key)  # CHANGED: base URL and key
    application = Application(api)
    with Inbox() as inbox:
        wait = partial(inbox.handle_until, application.handle)
        # CHANGED: endpoints are made on Recall's dashboard; here by a call, which shows the secret this once.
        triggers = ["calendar.events_update", "calendar.state_change"]
        endpoint = api.post("/webhooks", {"url": inbox.url, "triggers": triggers})
        inbox.secret = endpoint["secret"]
        say("a webhook endpoint is there")

        calendar = application.connect(ada.email, ada.client_id, ada.client_secret, ada.refresh_token)
        wait(lambda: len(application.events) == 2, "the events of a new calendar")
        (bot,) = application.bots("Demo")
        check("bots of the internal meeting", seen=application.bots("Stand-up"), expected=[])
        say(f"{calendar['id']} is connected: a bot for Demo, to which somebody else's company is invited; 2 events")

        ada.move(demo, in_days(4))
        wait(lambda: application.event("Demo")["start_time"] == instant(in_days(4)), "the new time of an event")
        (moved,) = application.bots("Demo")
        check("the bot after the move", seen=moved["id"], expected=bot["id"])
        check("when it joins", seen=moved["join_at"], expected=instant(in_days(4)))
        say("she moved Demo: its bot went along before we asked, and is still one")

        ada.change(demo, attendees=[COLLEAGUE])
        wait(lambda: len(application.event("Demo")["attendees"]) == 1, "a shorter list of guests")
        check("bots without a guest from outside", seen=application.bots("Demo"), expected=[])
        say("she took the guest off the list: the bot was removed")

        ada.change(demo, attendees=[GUEST, COLLEAGUE])
        wait(lambda: len(application.event("Demo")["attendees"]) == 2, "a longer list of guests")
        (bot,) = application.bots("Demo")
        say("she invited the guest again: a bot was added")

        ada.take_back_consent()
        application.retry(calendar["id"])
        # CHANGED: `state` is Recall's `status`, `connection_failure_data` its `status_changes`.
        wait(lambda: application.calendars[calendar["id"]]["state"] == "disconnected", "a disconnection")
        check("bots of a disconnected calendar", seen=application.bots("Demo"), expected=[])
        reason = application.calendars[calendar["id"]]["connection_failure_data"]["code"]
        say(f"she took her consent back: the calendar is disconnected ({reason}), the bot cancelled")

        application.reconnect(calendar["id"], ada.consent_again())
        wait(lambda: application.calendars[calendar["id"]]["state"] == "connected", "a reconnection")
        # CHANGED: Recall has unscheduled the bots, and they are to be added again. Here the same one comes back.
        (restored,) = application.bots("Demo")
        check("the bot that came back", seen=restored["id"], expected=bot["id"])
        say("she agreed again: connected, with the same bot")

        ada.cancel(demo)
        wait(lambda: bool(application.event("Demo")["is_deleted"]), "the end of an event")
        check("bots of a cancelled event", seen=application.bots("Demo"), expected=[])
        say("she cancelled Demo: the event is_deleted, its bot cancelled")

        application.disconnect(calendar["id"])
        api.delete(f"/webhooks/{endpoint['id']}")
        say("she left: the calendar is deleted")


if __name__ == "__main__":
    play(flow, "Recall's Calendar V2 guide on Punctual")
