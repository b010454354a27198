"""A calendar is connected, and told of when it is ready."""

from demo import telling
from demo.application import Application
from demo.processes import Stack
from demo.story import Connected
from demo.telling import say

FIRST_SYNC_SECONDS = 30.0


async def first_sync(stack: Stack, application: Application, calendar: Connected, asked: float) -> None:
    """Until its first message has come, its push channel is open, and it was looked at once more after that.

    `asked`: the unix time at which it was connected. Raises StackError.
    """

    async def has_come() -> bool:
        await application.look(wait=0.2)
        return bool(application.messages(calendar.id))

    email = calendar.account.email
    await stack.until(has_come, seconds=FIRST_SYNC_SECONDS, what=f"the first sync of {email}")
    message = application.messages(calendar.id)[0]
    synced_at = message.data["last_successful_sync_at"]

    async def is_settled() -> bool:
        state = await application.calendar(calendar.id)
        return bool(state["health"]["push"]["active"] and state["last_successful_sync_at"] > synced_at)

    await stack.until(is_settled, seconds=FIRST_SYNC_SECONDS, what=f"a push channel for {email}")
    events = await application.events(calendar.id)
    after = telling.milliseconds(message.at - asked)
    all_day, recurring = (sum(bool(event[name]) for event in events) for name in ("is_all_day", "series_id"))
    number = f"{len(events)} events, {all_day} all-day, {recurring} of series" if events else "no events"
    say(f"  connected  {email}: {number}; first webhook after {after}, push channel open")
