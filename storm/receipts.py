"""What a storm on delivery concludes, as a function of what was published, what arrived and what was recorded: pure.

lost          a committed message that one of its endpoints never acknowledged, or for which no delivery was made
forged        what must not have arrived: a signature that does not hold, another body than the one that was published,
              a message that was rolled back or never published, or one for another project
undone        a delivery that has not succeeded
disordered    a message that an endpoint which asked for order acknowledged before an earlier one of the same calendar
inconsistent  a delivery whose attempts contradict it: success without exactly one 2xx, or more attempts than claims
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Published:
    """A message whose transaction committed: `digest` is the SHA-256 of its body, in hex."""

    project: str
    calendar: str
    digest: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to an endpoint, at unix time `at`. Only a 2xx that went out in time is an acknowledgement."""

    endpoint: str
    id: str
    at: float
    is_valid: bool
    digest: str
    is_acknowledged: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """A delivery's row and the status of each of its attempts, None where there was no answer."""

    endpoint: str
    id: str
    state: str
    attempt_count: int
    statuses: tuple[int | None, ...]


@dataclass(slots=True)
class Receipts:
    """What is wrong, one line each, and how many acknowledgements were not the first of their message."""

    lost: list[str] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    inconsistent: list[str] = field(default_factory=list)
    duplicates: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong; duplicates are not, delivery is at least once."""
        return not (self.lost or self.forged or self.undone or self.disordered or self.inconsistent)


def judge(
    published: Mapping[str, Published],
    listeners: Mapping[str, Sequence[str]],
    arrivals: Sequence[Arrival],
    recorded: Sequence[Recorded],
    *,
    ordered: Collection[str] = (),
) -> Receipts:
    """`published` by message id, for each calendar in order; `listeners`: the endpoints of each project, all of which
    get all its messages, those in `ordered` one calendar's in order. Arrivals are in order too.
    """
    found = Receipts()
    expected = {(endpoint, id_) for id_, message in published.items() for endpoint in listeners[message.project]}
    acknowledged: Counter[tuple[str, str]] = Counter()
    for one in arrivals:
        wrong = _forgery(one, published.get(one.id), is_expected=(one.endpoint, one.id) in expected)
        if wrong is not None:
            found.forged.append(f"{one.id} at {one.endpoint}: {wrong}")
        elif one.is_acknowledged:
            acknowledged[one.endpoint, one.id] += 1
    found.disordered = list(_disorder(published, acknowledged, ordered))
    found.duplicates = sum(count - 1 for count in acknowledged.values())
    rows = Counter((row.endpoint, row.id) for row in recorded)
    found.lost += [f"{id_} was never acknowledged by {name}" for name, id_ in sorted(expected - acknowledged.keys())]
    found.lost += [
        f"{id_} has {rows[name, id_]} deliveries for {name}" for name, id_ in sorted(expected) if rows[name, id_] != 1
    ]
    for row in recorded:
        if row.state != "succeeded":
            found.undone.append(f"{row.id} for {row.endpoint} is {row.state}")
        found.inconsistent += [f"{row.id} for {row.endpoint}: {text}" for text in _contradictions(row)]
        if (row.endpoint, row.id) not in expected:
            found.inconsistent.append(f"{row.id} for {row.endpoint}: is recorded, and was not published")
    return found


def _forgery(one: Arrival, message: Published | None, *, is_expected: bool) -> str | None:
    if not one.is_valid:
        return "its signature does not hold"
    if message is None:
        return "no transaction that published it has committed"
    if not is_expected:
        return f"is for endpoints of {message.project}"
    return None if one.digest == message.digest else "has another body than was published"


def _disorder(
    published: Mapping[str, Published], acknowledged: Iterable[tuple[str, str]], ordered: Collection[str]
) -> Iterator[str]:
    """`acknowledged`: endpoints and messages, in the order of their first acknowledgements."""
    places = {id_: place for place, id_ in enumerate(published)}
    last: dict[tuple[str, str], str] = {}
    for endpoint, id_ in acknowledged:
        if endpoint in ordered:
            before = last.setdefault((endpoint, published[id_].calendar), id_)
            if places[before] > places[id_]:
                yield f"{id_} came to {endpoint} after {before}, which was published later"
            else:
                last[endpoint, published[id_].calendar] = id_


def _contradictions(row: Recorded) -> Iterator[str]:
    successes = sum(
        status is not None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES for status in row.statuses
    )
    if successes != (row.state == "succeeded"):
        yield f"is {row.state} with {successes} attempts that were answered 2xx"
    if len(row.statuses) > row.attempt_count:
        yield f"has {len(row.statuses)} attempts of {row.attempt_count} claims"
