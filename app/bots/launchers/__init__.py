"""Back ends that bring a bot into a meeting, behind one port (`base`), one file each.

`make_launcher` is the only way to one; `problems_of` says whether a kind of back end can carry out a config.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from app.bots.launchers import attendee, meeting_baas, recall
from app.bots.launchers.attendee import Attendee
from app.bots.launchers.base import CAPABILITIES, Kind, Launcher
from app.bots.launchers.config import EVERYTHING, Support, config_problems
from app.bots.launchers.http import TIMEOUT_SECONDS
from app.bots.launchers.meeting_baas import MeetingBaas
from app.bots.launchers.recall import Recall
from app.egress import Egress
from app.errors import FieldProblem

_MAKERS: Mapping[Kind, Callable[[Egress, str, str, float], Launcher]] = MappingProxyType(
    {"attendee": Attendee, "recall": Recall, "meeting_baas": MeetingBaas}
)
SUPPORT: Mapping[Kind, Support] = MappingProxyType(
    {
        "webhook": EVERYTHING,
        "attendee": attendee.SUPPORT,
        "recall": recall.SUPPORT,
        "meeting_baas": meeting_baas.SUPPORT,
    }
)


def make_launcher(
    kind: Kind, *, egress: Egress, base_url: str | None, api_key: str, timeout_seconds: float = TIMEOUT_SECONDS
) -> Launcher:
    """A launcher of this kind, at the vendor's address unless another is given. `webhook` has none: ValueError."""
    vendor = CAPABILITIES[kind].base_url
    if vendor is None:
        raise ValueError("a webhook is launched by a message")
    return _MAKERS[kind](egress, base_url or vendor, api_key, timeout_seconds)


def problems_of(config: object, kind: Kind, *, pointer: str = "/config") -> list[FieldProblem]:
    """All that is wrong with a config for this kind of back end."""
    return config_problems(config, SUPPORT[kind], pointer=pointer)


__all__ = ["CAPABILITIES", "SUPPORT", "Kind", "Launcher", "make_launcher", "problems_of"]
