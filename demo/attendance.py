"""What the bots' part concludes, as functions of what was seen: pure, so that a test can show them false evidence.

`bots` are the API's; `meetings` are the back end's: each link that it was ever given, with its bots and how many came.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

Json = dict[str, Any]

LOOK_SECONDS = 54
"""Before a bot joins, the earliest look (docs/bots.md)."""


def flaws(bots: Sequence[Json], meetings: Sequence[Json], *, shared: Collection[str], unasked: str) -> list[str]:
    """What is wrong in the end, when every meeting was cancelled.

    `shared` are the links that the meeting of several invitees had, `unasked` is that of the meeting of which the back
    end must not have heard.
    """
    found = [f"{bot['id']} is {bot['state']} in the end" for bot in bots if bot["state"] != "cancelled"]
    for links, number in ((shared, 1), ((unasked,), 1)):
        made = sum(bot["meeting_url"] in links for bot in bots)
        if made != number:
            found.append(f"{made} bots were made for {' or '.join(sorted(links))}, not {number}")
    known = {link for meeting in meetings for link in (meeting["meeting_url"], *_earlier(meeting))}
    if unasked in known:
        found.append(f"the back end was asked for {unasked}")
    given = sum(len(meeting["bots"]) for meeting in meetings if meeting["meeting_url"] in shared)
    if given != 1:
        found.append(f"the back end was given {given} bots for one meeting")
    found += [f"the back end has a bot for {link}" for link in sorted(known - {*shared, unasked})]
    found += [f"a bot came to {one['meeting_url']}, which was cancelled" for one in meetings if one["joined"]]
    for meeting in meetings:
        phases = [bot["phase"] for bot in meeting["bots"] if bot["phase"] not in {"withdrawn", "joined"}]
        found += [f"a bot for {meeting['meeting_url']} is still {phase} at the back end" for phase in phases]
    return found


def _earlier(meeting: Json) -> list[str]:
    return [change["meeting_url"] for bot in meeting["bots"] for change in bot["changes"] if "meeting_url" in change]


def trial_flaws(results: Sequence[Json], expected: Collection[str]) -> list[str]:
    """What is wrong with a dry run that should give a bot to one of these events, and to no other."""
    added = [one["calendar_event_id"] for one in results if one["effect"] == "add"]
    if len(added) == 1 and added[0] in expected:
        return []
    return [f"the dry run gives bots to {len(added)} events, {len({*added} & {*expected})} of them of the meeting"]


def look_flaws(ahead: float) -> list[str]:
    """What is wrong with the time at which a cancellation was found that no push told: seconds before joining."""
    if ahead <= 0:
        return [f"the cancellation was found {-ahead:.1f} s after the bot was to join"]
    if ahead > LOOK_SECONDS:
        return [f"the cancellation was found {ahead:.0f} s ahead: not by the look before joining"]
    return []


def seconds_between(bot: Json, first: str, then: str) -> float | None:
    """From the latest `first` among what happened to a bot until the next `then`; None where these did not happen."""
    began: datetime | None = None
    lasted: float | None = None
    for event in bot["events"]:
        at = datetime.fromisoformat(event["at"])
        if event["type"] == first:
            began, lasted = at, None
        elif event["type"] == then and began is not None and lasted is None:
            lasted = (at - began).total_seconds()
    return lasted


def at_back_end(meetings: Sequence[Json], external_id: str | None) -> Json | None:
    """A bot as the back end has it."""
    return next((bot for meeting in meetings for bot in meeting["bots"] if bot["id"] == external_id), None)
