"""The signed webhook as a back end: what a `bot.launch` message says, and what its receiver may answer. Pure.

There is no HTTP here: the message goes the way of all messages, and its receiver starts the bot. A further message with
the same bot's id and a higher `revision` changes it; `bot.state_change` to `cancelled` withdraws it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from app.instants import instant

BOT_LAUNCH = "bot.launch"
MAX_ID = 200


def launch_data(bot: Mapping[str, Any], *, revision: int, join_at: datetime, expires_at: datetime) -> dict[str, Any]:
    """The `data` of a `bot.launch` message; `bot` as the API shows it, `expires_at` the end of its meeting."""
    return {"bot": bot, "revision": revision, "join_at": instant(join_at), "expires_at": instant(expires_at)}


def external_id(answer: bytes) -> str | None:
    """The receiver's own id of the bot, if its answer is JSON that names a usable one."""
    try:
        body = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    value = body.get("external_id") if isinstance(body, dict) else None
    is_usable = isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable()
    return value if is_usable else None
