"""Identifiers and tokens that look like the provider's own, so that nobody can rely on a friendlier shape.

Google: base32hex events, calendars that are addresses. Microsoft: GUIDs for people and tenants, and opaque
case-sensitive ids of about 150 characters for items (`AAMk…`; `AQMk…` in personal mailboxes). An event of a Microsoft
calendar carries its immutable id in the world (`AAkA…`): it stays when the event moves to another calendar.
"""

import base64
import secrets
from datetime import datetime
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid4, uuid5

CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of every personal Microsoft account."""

PERSONAL_DOMAINS = ("outlook.com", "hotmail.com", "live.com", "msn.com")

_BASE32HEX = "0123456789abcdefghijklmnopqrstuv"
_IMMUTABLE = "AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A"
_WORK = "AAMkAD"
_PERSONAL = "AQMkAD"


def tenant_of(email: str) -> str:
    """The GUID of the organisation behind a mail domain; always the same for one domain."""
    return str(uuid5(NAMESPACE_DNS, email.rpartition("@")[2].lower()))


def subject(provider: str, number: int) -> str:
    """The stable name of a person: 21 digits at Google, a GUID (`oid`) at Microsoft."""
    return str(uuid4()) if provider == "microsoft" else f"{number:021d}"


def calendar(provider: str, *, personal: bool = False) -> str:
    """A new calendar's id."""
    if provider == "microsoft":
        return item(secrets.token_hex(16), personal=personal)
    return f"{secrets.token_hex(26)}@group.calendar.google.com"


def event(provider: str) -> str:
    """A new event's id."""
    if provider == "microsoft":
        return immutable(secrets.token_hex(16))
    return "".join(secrets.choice(_BASE32HEX) for _ in range(26))


def ical_uid(provider: str, event_id: str, created: datetime) -> str:
    """What iCalendar calls the meeting; Outlook's is a global object id in hexadecimal, without an instance's date."""
    if provider != "microsoft":
        return f"{event_id}@google.com"
    ticks = int(created.timestamp() * 10_000_000).to_bytes(8, "little").hex()
    unique = sha256(event_id.encode()).hexdigest()[:32]
    return f"040000008200E00074C5B7101A82E00800000000{ticks}000000000000000010000000{unique}".upper()


def refresh_token(provider: str, *, personal: bool = False) -> str:
    """A new refresh token."""
    if provider == "microsoft":
        return ("M.C512_BAY.0.U.-" if personal else "0.AXkA") + secrets.token_urlsafe(200)
    return f"1//{secrets.token_urlsafe(32)}"


def access_token(provider: str, *, personal: bool = False) -> str:
    """A new bearer token; opaque, whatever it looks like."""
    if provider == "microsoft":
        return ("EwB4A8l6BAAU" if personal else "eyJ0eXAiOiJKV1QiLCJub25jZSI6I.") + secrets.token_urlsafe(300)
    return f"ya29.{secrets.token_urlsafe(48)}"


def immutable(seed: str) -> str:
    """The immutable form of an item's id, the same for the same seed."""
    return _IMMUTABLE + _padded(seed, 72)


def item(seed: str, *, personal: bool) -> str:
    """The ordinary form of an item's id, the same for the same seed."""
    return (_PERSONAL if personal else _WORK) + _padded(seed, 105)


def _padded(seed: str, count: int) -> str:
    """That many bytes that follow from the seed, as Exchange writes them: base64 with `-` and `_`."""
    data = b"".join(sha256(f"{seed}|{n}".encode()).digest() for n in range(count // 32 + 1))[:count]
    return base64.urlsafe_b64encode(data).decode()
