"""Whose turn it is: claims wait in a lane per endpoint, and lanes take turns within a share per project.

A lane begins with a few slots and gets more with each answer; one that lets an attempt run into its timeout has one
slot until it answers again. However many endpoints a project has, those that are slow, or not known yet, hold at most
half of all slots: quick ones give theirs back before anybody notices.

What is urgent has the first turn of its endpoint, and of its project, and all slots that an endpoint may have at all.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from app.webhooks.claims import Claim

AHEAD_SECONDS = 0.2
"""A lane holds what it will send within this time, so that what waits is fresh when its turn comes."""
AHEAD_FACTOR = 9
FIRST_SECONDS = 1.0
"""What an attempt is taken to last before the first one has ended."""
FIRST_SLOTS = 4
"""Of an endpoint that has not answered yet."""
QUICK_SECONDS = 0.5
"""An endpoint whose attempts take less on average is quick."""
LATER_TURNS = 8
"""One turn in so many of a lane is for what is no first attempt, whoever else waits."""
LANES_REMEMBERED = 500
"""Of endpoints that have nothing in hand; who was quick needs not begin with FIRST_SLOTS again."""


class Lane:
    """The claims of one endpoint: how many are under way, those that wait, and how long one takes."""

    __slots__ = (
        "active",
        "is_full",
        "is_looked_at",
        "is_queued",
        "later",
        "most",
        "project_id",
        "seconds",
        "slots",
        "turns",
        "urgent",
        "waiting",
    )

    def __init__(self, project_id: UUID, most: int) -> None:
        self.project_id = project_id
        self.most = most
        """How many may be under way at all."""
        self.active = 0
        self.urgent: deque[Claim] = deque()
        self.waiting: deque[Claim] = deque()
        self.later: deque[Claim] = deque()
        """What is no first attempt: it goes after them, but for one turn in LATER_TURNS."""
        self.turns = 0
        self.seconds = FIRST_SECONDS
        self.slots = min(FIRST_SLOTS, most)
        self.is_queued = False
        self.is_full = False
        self.is_looked_at = False
        """What waits is being read again just now."""

    @property
    def held(self) -> int:
        """Claims in hand."""
        return self.active + self.left

    @property
    def left(self) -> int:
        """Claims that wait."""
        return len(self.urgent) + len(self.waiting) + len(self.later)

    @property
    def queues(self) -> tuple[deque[Claim], deque[Claim], deque[Claim]]:
        """What waits, by rank."""
        return self.urgent, self.waiting, self.later

    @property
    def is_ready(self) -> bool:
        """Whether it has something to send and a slot for it."""
        if self.urgent and self.active < self.most:
            return True
        return bool(self.waiting or self.later) and self.active < self.slots

    @property
    def is_quick(self) -> bool:
        """Whether what it holds comes back soon."""
        return self.seconds < QUICK_SECONDS and self.slots > 1

    @property
    def credit(self) -> int:
        """How many claims it may hold: its slots, and what these will take within AHEAD_SECONDS."""
        ahead = self.slots * AHEAD_SECONDS / max(self.seconds, 0.001)
        return self.slots + min(self.slots * AHEAD_FACTOR, int(ahead))

    @property
    def urgent_room(self) -> int:
        """How many urgent claims it may be given: one for each slot that it may have, whatever else it holds."""
        return max(self.credit - self.held, self.most - len(self.urgent))

    def draw(self) -> Claim:
        """The claim whose turn it is."""
        if self.urgent:
            return self.urgent.popleft()
        self.turns += 1
        is_later = self.later and (not self.waiting or self.turns % LATER_TURNS == 0)
        return (self.later if is_later else self.waiting).popleft()

    def answered(self, seconds: float, *, in_time: bool) -> None:
        """An attempt took so long."""
        self.seconds += (seconds - self.seconds) / 5
        self.slots = min(self.slots * 2, self.most) if in_time else 1


class Turn(NamedTuple):
    """A claim that is to be sent now; `is_slow` says whose slots it takes."""

    lane: Lane
    claim: Claim
    is_slow: bool


class _Share:
    __slots__ = ("held", "ready", "slow")

    def __init__(self) -> None:
        self.slow = 0
        """Slots of lanes that were not quick when they took them."""
        self.held = 0
        self.ready: deque[Lane] = deque()

    def queue(self, lane: Lane) -> None:
        """Let it have a turn, the next one if that is urgent."""
        lane.is_queued = True
        if lane.urgent:
            self.ready.appendleft(lane)
        else:
            self.ready.append(lane)


class Turns:
    """All lanes: projects take turns, and within one its endpoints."""

    def __init__(self, *, most_active: int, most_held: int, most_of_endpoint: int) -> None:
        self._share_slow = max(1, most_active // 2)
        self._share_held = max(1, most_held // 2)
        self._most = most_of_endpoint
        self._lanes: dict[UUID, Lane] = {}
        self._shares: dict[UUID, _Share] = {}
        self._order: deque[UUID] = deque()

    @property
    def lanes(self) -> Iterable[Lane]:
        """Every lane that is remembered."""
        return self._lanes.values()

    @property
    def first_room(self) -> int:
        """What an endpoint that is not known yet may be given."""
        return Lane(UUID(int=0), self._most).credit

    @property
    def share(self) -> int:
        """How many claims a project may have waiting and under way."""
        return self._share_held

    def shares(self) -> dict[UUID, int]:
        """What projects that hold some may be given still."""
        return {project: self._share_held - share.held for project, share in self._shares.items()}

    def rooms(self) -> dict[UUID, int]:
        """What endpoints that are known may be given still. A full one gets nothing until it is half empty."""
        if len(self._lanes) > LANES_REMEMBERED:
            self._lanes = {endpoint: lane for endpoint, lane in self._lanes.items() if lane.held}
        rooms: dict[UUID, int] = {}
        for endpoint, lane in self._lanes.items():
            room = lane.credit - lane.held
            lane.is_full = room <= 0 or (lane.is_full and lane.held > 0)
            rooms[endpoint] = 0 if lane.is_full else room
        return rooms

    def urgent_rooms(self) -> dict[UUID, int]:
        """What endpoints that are known may be given still of what is urgent."""
        return {endpoint: lane.urgent_room for endpoint, lane in self._lanes.items()}

    def take_in(self, claim: Claim) -> Lane:
        """Put a new claim into its lane."""
        lane = self._lanes.get(claim.endpoint_id)
        if lane is None:
            lane = self._lanes[claim.endpoint_id] = Lane(claim.project_id, self._most)
        (lane.urgent if claim.is_urgent else lane.waiting if claim.is_first else lane.later).append(claim)
        self._share(claim.project_id).held += 1
        return lane

    def queue(self, lane: Lane) -> None:
        """Let the lane have turns if it has something to send and a slot for it."""
        share = self._share(lane.project_id)
        if lane.is_queued and lane.urgent:
            share.ready.remove(lane)
            share.ready.appendleft(lane)
        elif lane.is_ready and not lane.is_queued:
            if not share.ready:
                self._order.append(lane.project_id)
            share.queue(lane)

    def next(self) -> Turn | None:
        """The claim to send next, its slot taken."""
        for _ in range(len(self._order)):
            project_id = self._order.popleft()
            share = self._shares[project_id]
            turn = self._turn(share)
            if share.ready:
                self._order.append(project_id)
            if turn is not None:
                return turn
        return None

    def _turn(self, share: _Share) -> Turn | None:
        for _ in range(len(share.ready)):
            lane = share.ready.popleft()
            if not lane.is_ready:  # they were given back meanwhile
                lane.is_queued = False
                continue
            is_slow = not lane.is_quick
            if is_slow and share.slow >= self._share_slow:
                share.ready.append(lane)
                continue
            lane.is_queued = False
            lane.active += 1
            share.slow += is_slow
            claim = lane.draw()
            if lane.is_ready:
                share.queue(lane)
            return Turn(lane, claim, is_slow)
        return None

    def done(self, turn: Turn) -> bool:
        """A slot is free again. Whether a lane that was full has room now."""
        lane = turn.lane
        lane.active -= 1
        self._share(lane.project_id).slow -= turn.is_slow
        self.queue(lane)
        if lane.is_full and lane.held <= lane.credit // 2:
            lane.is_full = False
            return True
        return False

    def answered(self, lane: Lane, seconds: float, *, in_time: bool) -> None:
        """An attempt of the lane took so long."""
        lane.answered(seconds, in_time=in_time)

    def let_go(self, project_id: UUID) -> bool:
        """A claim neither waits nor is under way. Whether its project's share has room again."""
        share = self._share(project_id)
        share.held -= 1
        if not share.held and not share.slow and not share.ready:
            self._shares.pop(project_id)
        return share.held == self._share_held - 1

    def _share(self, project_id: UUID) -> _Share:
        share = self._shares.get(project_id)
        if share is None:
            share = self._shares[project_id] = _Share()
        return share
