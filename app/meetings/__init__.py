"""Which meeting an event leads to: link candidates found in its fields, the most trusted first.

Pure and bounded: hosts are judged on the parsed URL, never by substring; no text makes it slow or raise. `platforms`
holds the products as data, `links` finds URLs in text, `unwrap` sees through mail gateways' rewriting.
"""

from app.meetings.candidates import MeetingCandidate, find
from app.meetings.platforms import UNKNOWN

__all__ = ["UNKNOWN", "MeetingCandidate", "find"]
