"""What Google sends to push channels: headers only, no body, as the guide "push" describes it."""

from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import Literal

from sandbox.push import Channel, Post

RETRIED = {500, 502, 503, 504}
DEFAULT_LIFE = timedelta(seconds=604_799)


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one channel. 500, 502, 503, 504 and broken connections are tried again, nothing else is."""

    channel: Channel
    state: Literal["sync", "exists", "not_exists"]
    number: int

    def post(self, _attempt: int) -> Post:
        """What goes over the wire."""
        return Post(self.channel.address, self.headers())

    def is_final(self, status: int) -> bool:
        """Whether this answer ends the attempts; 0 is a broken connection."""
        return status != 0 and status not in RETRIED

    def answered(self, status: int, seconds: float) -> None:
        """Google does not hold slowness against anybody."""

    def headers(self) -> dict[str, str]:
        """The X-Goog-* headers."""
        headers = {
            "X-Goog-Channel-ID": self.channel.id,
            "X-Goog-Channel-Expiration": format_datetime(self.channel.expires_at, usegmt=True),
            "X-Goog-Resource-ID": self.channel.resource_id,
            "X-Goog-Resource-URI": self.channel.resource_uri,
            "X-Goog-Resource-State": self.state,
            "X-Goog-Message-Number": str(self.number),
            "Content-Type": "application/json; utf-8",
            "Content-Length": "0",
            "User-Agent": "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)",
        }
        if self.channel.token is not None:
            headers["X-Goog-Channel-Token"] = self.channel.token
        return headers
