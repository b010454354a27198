"""The customer's own back end: what one that does as docs/bots.md says makes of the messages that came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sandbox.sink import Received


@dataclass(slots=True)
class Picture:
    """A bot as the receiver has it. Revision 0: it never heard of it."""

    revision: int = 0
    is_live: bool = False
    url: str | None = None
    join_at: datetime | None = None
    starts: int = 0


def played(messages: Sequence[Received]) -> dict[str, Picture]:
    """What a receiver has in the end; refused messages are as good as lost, those that come twice are known."""
    pictures: dict[str, Picture] = {}
    for one in messages:
        trigger = one.body.get("trigger")
        if one.status >= 300 or trigger not in {"bot.launch", "bot.state_change"}:
            continue
        data = one.body["data"]
        picture = pictures.setdefault(data["bot"]["id"], Picture())
        if trigger == "bot.state_change":
            # An end that comes late is older than the launch after it, which goes ahead of it.
            if data["new_state"] == "cancelled" and data["revision"] > picture.revision:
                picture.is_live, picture.revision = False, data["revision"]
        elif data["revision"] > picture.revision:
            picture.starts += not picture.is_live
            picture.revision, picture.is_live = data["revision"], True
            picture.url, picture.join_at = data["bot"]["meeting_url"], datetime.fromisoformat(data["join_at"])
    return pictures
