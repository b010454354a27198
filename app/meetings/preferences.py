"""What a project wants of its links: which platform goes first, and hosts of its own. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

ExtraHosts = tuple[tuple[str, str], ...]
"""(host, platform) of servers that a project runs, or trusts."""


class Preferences(NamedTuple):
    """Hashable, and cheaply so, since results are kept per preferences."""

    platforms: tuple[str, ...] = ()
    """Platforms that go before all others, the most wanted first."""
    extra_hosts: ExtraHosts = ()

    @classmethod
    def of(cls, *, platforms: Sequence[str], extra_hosts: Mapping[str, Sequence[str]]) -> "Preferences":
        """From the shape that the API has: hosts by platform."""
        pairs = ((host, platform) for platform, hosts in extra_hosts.items() for host in hosts)
        return cls(tuple(platforms), tuple(sorted(pairs)))

    def rank(self, platform: str) -> int:
        """How much a platform is wanted: 0 for one that is not named, more for each place nearer to the top."""
        return len(self.platforms) - self.platforms.index(platform) if platform in self.platforms else 0


NONE = Preferences()
