"""The storm on delivery: a small one on real processes, and its verdict shown false evidence, which it must name."""

import asyncio
import re
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from demo.processes import ROOT
from storm.delivery import RECOVERY_SECONDS, Result
from storm.receipts import Arrival, Published, Receipts, Recorded, judge

LISTENERS = {"proj_a": ("a1", "a2"), "proj_b": ("b1",)}
PUBLISHED = {"msg_1": Published("proj_a", "cal_1", "d1"), "msg_2": Published("proj_b", "cal_1", "d2")}
ARRIVALS = [
    Arrival("a1", "msg_1", 1.0, is_valid=True, digest="d1", is_acknowledged=False),
    Arrival("a1", "msg_1", 2.0, is_valid=True, digest="d1", is_acknowledged=True),
    Arrival("a2", "msg_1", 1.0, is_valid=True, digest="d1", is_acknowledged=True),
    Arrival("b1", "msg_2", 1.0, is_valid=True, digest="d2", is_acknowledged=True),
]
RECORDED = [
    Recorded("a1", "msg_1", "succeeded", attempt_count=3, statuses=(500, 204)),  # one claim died with its worker
    Recorded("a2", "msg_1", "succeeded", attempt_count=1, statuses=(204,)),
    Recorded("b1", "msg_2", "succeeded", attempt_count=2, statuses=(None, 204)),
]
Evidence = tuple[dict[str, Published], list[Arrival], list[Recorded]]


def judged(change: Callable[[Evidence], None] = lambda _: None) -> Receipts:
    """The judgement of what is right, but for the change."""
    evidence = (dict(PUBLISHED), list(ARRIVALS), list(RECORDED))
    change(evidence)
    published, arrivals, recorded = evidence
    return judge(published, LISTENERS, arrivals, recorded)


def counts(found: Receipts) -> tuple[int, int, int, int]:
    """Lost, forged, undone, inconsistent."""
    return len(found.lost), len(found.forged), len(found.undone), len(found.inconsistent)


def test_what_is_right_holds() -> None:
    assert judged().holds
    assert judged().duplicates == 0


def test_what_was_never_acknowledged_is_lost() -> None:
    def never(at: Evidence) -> None:
        at[1].pop()

    def refused(at: Evidence) -> None:
        at[1][3] = replace(at[1][3], is_acknowledged=False)

    assert counts(judged(never)) == counts(judged(refused)) == (1, 0, 0, 0)


def test_what_only_one_of_two_endpoints_got_is_lost() -> None:
    def one(at: Evidence) -> None:
        del at[1][2], at[2][1]

    assert counts(judged(one)) == (2, 0, 0, 0)  # no receipt, and no delivery


@pytest.mark.parametrize(
    "wrong",
    [
        Arrival("b1", "msg_2", 3.0, is_valid=False, digest="d2", is_acknowledged=True),
        Arrival("b1", "msg_2", 3.0, is_valid=True, digest="d1", is_acknowledged=True),
        Arrival("b1", "msg_1", 3.0, is_valid=True, digest="d1", is_acknowledged=True),
        Arrival("b1", "msg_3", 3.0, is_valid=True, digest="d3", is_acknowledged=False),
    ],
    ids=["signature", "body", "project", "rolled back"],
)
def test_what_must_not_arrive_is_forged(wrong: Arrival) -> None:
    assert counts(judged(lambda at: at[1].append(wrong))) == (0, 1, 0, 0)


def test_a_receipt_that_is_forged_is_none() -> None:
    def forged(at: Evidence) -> None:
        at[1][3] = replace(at[1][3], is_valid=False)

    assert counts(judged(forged)) == (1, 1, 0, 0)


def test_an_acknowledgement_that_comes_again_is_a_duplicate() -> None:
    found = judged(lambda at: at[1].append(replace(at[1][3], at=9.0)))
    assert found.holds
    assert found.duplicates == 1


def test_order_is_that_of_first_acknowledgements_within_a_calendar() -> None:
    published = {f"msg_{n}": Published("proj_b", "cal_2" if n == 3 else "cal_1", f"d{n}") for n in (1, 2, 3)}
    rows = [Recorded("b1", id_, "succeeded", attempt_count=1, statuses=(204,)) for id_ in published]

    def seen(*numbers: int) -> Receipts:
        came = [
            Arrival("b1", f"msg_{n}", float(n), is_valid=True, digest=f"d{n}", is_acknowledged=True) for n in numbers
        ]
        return judge(published, LISTENERS, came, rows, ordered=("b1",))

    assert seen(3, 1, 2).holds
    assert seen(1, 2, 1, 3).holds  # again, and not for the first time
    assert len(seen(2, 1, 3).disordered) == 1
    assert not seen(2, 1, 3).holds


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (Recorded("b1", "msg_2", "pending", attempt_count=1, statuses=(500,)), (0, 0, 1, 0)),
        (Recorded("b1", "msg_2", "failed", attempt_count=1, statuses=(500,)), (0, 0, 1, 0)),
        (Recorded("b1", "msg_2", "pending", attempt_count=1, statuses=(204,)), (0, 0, 1, 1)),
        (Recorded("b1", "msg_2", "succeeded", attempt_count=1, statuses=()), (0, 0, 0, 1)),
        (Recorded("b1", "msg_2", "succeeded", attempt_count=1, statuses=(500,)), (0, 0, 0, 1)),
        (Recorded("b1", "msg_2", "succeeded", attempt_count=2, statuses=(204, 204)), (0, 0, 0, 1)),
        (Recorded("b1", "msg_2", "succeeded", attempt_count=1, statuses=(500, 204)), (0, 0, 0, 1)),
    ],
)
def test_rows_that_contradict_success(wrong: Recorded, expected: tuple[int, int, int, int]) -> None:
    def put(at: Evidence) -> None:
        at[2][2] = wrong

    assert counts(judged(put)) == expected


def test_a_row_of_what_was_not_published_is_inconsistent() -> None:
    extra = Recorded("b1", "msg_3", "succeeded", attempt_count=1, statuses=(204,))
    assert counts(judged(lambda at: at[2].append(extra))) == (0, 0, 0, 1)


def test_only_a_perfect_result_in_time_holds() -> None:
    perfect = Result(20_000, 26, Receipts(duplicates=41), 14.3)
    assert perfect.holds
    assert str(perfect) == (
        "storm-delivery: 20000 messages, 26 kills, lost 0, forged 0, duplicates 41, recovered in 14 s"
    )
    for bad in (
        replace(perfect, receipts=Receipts(lost=["x"])),
        replace(perfect, receipts=Receipts(forged=["x"])),
        replace(perfect, receipts=Receipts(undone=["x"])),
        replace(perfect, receipts=Receipts(disordered=["x"])),
        replace(perfect, receipts=Receipts(inconsistent=["x"])),
        replace(perfect, seconds=RECOVERY_SECONDS + 0.1),
    ):
        assert not bad.holds


@pytest.mark.slow  # real processes, killed; leases have to run out
@pytest.mark.timeout(600)
async def test_a_small_storm() -> None:
    pipe = asyncio.subprocess.PIPE
    arguments = ("-m", "storm", "--delivery", "--messages", "1000", "--seed", "7")
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=pipe, stderr=pipe)
    try:
        said, failed = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    *told, last = said.decode().splitlines()
    is_late = any(line.startswith("  LATE: ") for line in told)  # on a busy machine that alone is no fault
    assert not [line for line in told if re.match("  (LOST|FORGED|UNDONE|DISORDERED|INCONSISTENT): ", line)]
    assert process.returncode == is_late, (said.decode(), failed.decode())
    assert re.fullmatch(
        r"storm-delivery: 1000 messages, [1-9]\d* kills, lost 0, forged 0, duplicates \d+, recovered in \d+ s", last
    )
