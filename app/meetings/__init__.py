"""Which meeting an event leads to: link candidates found in its fields, the most trusted first.

Pure and bounded: hosts are judged on the parsed URL, never by substring; no text makes it slow or raise. `table` holds
the products as data, `platforms` judges a URL by it, `links` finds URLs in text, `unwrap` sees through mail gateways'
rewriting, `passcodes` reads what is written beside a link, `candidates` chooses, `verdicts` judges a URL on its own.
"""

from app.meetings.candidates import NOTHING, SCORES, Choice, Meeting, MeetingCandidate, find
from app.meetings.hosts import is_public_name
from app.meetings.platforms import HOSTS, UNKNOWN, Link
from app.meetings.preferences import NONE as NO_PREFERENCES
from app.meetings.preferences import Preferences
from app.meetings.table import NAMES, SELF_HOSTED_NAMES
from app.meetings.unwrap import HOSTS as WRAPPER_HOSTS
from app.meetings.verdicts import REASONS, Refusal, Verdict, canonical_key, judge

__all__ = [
    "HOSTS",
    "NAMES",
    "NOTHING",
    "NO_PREFERENCES",
    "REASONS",
    "SCORES",
    "SELF_HOSTED_NAMES",
    "UNKNOWN",
    "WRAPPER_HOSTS",
    "Choice",
    "Link",
    "Meeting",
    "MeetingCandidate",
    "Preferences",
    "Refusal",
    "Verdict",
    "canonical_key",
    "find",
    "is_public_name",
    "judge",
]
