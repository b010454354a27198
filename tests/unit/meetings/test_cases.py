"""Every case of `cases/`: what is a meeting, what comes out of wrappers and texts, what names a meeting."""

from collections import defaultdict
from typing import Any

import pytest

from app.meetings import NAMES, MeetingCandidate, Preferences, canonical_key, find, judge
from app.meetings.table import PLATFORMS, SELF_HOSTED
from tests.unit.meetings.tables import lines, pairs, toml

URLS = lines("urls.txt", 3)
WRAPPED = pairs("wrapped.txt")
TEXTS = toml("texts.toml")
KEYS = lines("keys.txt", 2)
JUDGED = lines("judged.txt", 3)
OWN = Preferences.of(platforms=(), extra_hosts={"jitsi": ["meet.acme.example"]})


def described(text: str) -> tuple[MeetingCandidate, ...]:
    return find(structured=(), texts=(("description", text),)).candidates


def test_there_are_enough_cases_and_no_id_stands_twice() -> None:
    for ids in ([row[0] for row in URLS], [row[0] for row in WRAPPED], [row[0] for row in JUDGED]):
        assert len(set(ids)) == len(ids)
    assert len({case["id"] for case in TEXTS}) == len(TEXTS)
    assert len(URLS) + len(WRAPPED) + len(TEXTS) + len(KEYS) + len(JUDGED) >= 600


@pytest.mark.parametrize(("platform", "url"), [pytest.param(*row[1:], id=row[0]) for row in URLS])
def test_an_address_in_a_text(platform: str, url: str) -> None:
    found = [(c.platform, c.url) for c in described(f"Join here: {url} see you")]
    assert found == ([] if platform == "-" else [(platform, url)])


def test_every_row_of_the_table_has_a_case() -> None:
    """Without a row its cases fail; here: without a case the row fails."""
    have = {platform for _, platform, _ in URLS}
    assert {row.name for row in PLATFORMS} == have - {"-"}
    assert len(NAMES) >= 80
    assert all(not row.hosts for row in SELF_HOSTED)


@pytest.mark.parametrize(("inner", "wrapped"), [pytest.param(*row[1:], id=row[0]) for row in WRAPPED])
def test_a_wrapped_address(inner: str, wrapped: str) -> None:
    expected = [] if inner == "-" else [(inner, wrapped)]
    for text in (wrapped, f"Join: {wrapped} bye", f'<a href="{wrapped.replace("&", "&amp;")}">Join</a>'):
        assert [(c.url, c.unwrapped_from) for c in described(text)] == expected
    structured = find(structured=(("conference_data", wrapped),), texts=()).candidates
    if expected:
        assert [(c.url, c.unwrapped_from) for c in structured] == expected


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in TEXTS])
def test_a_text(case: dict[str, Any]) -> None:
    for text in (case["text"], f"Hello,\n{case['text']}\n"):
        found = described(text)
        assert [c.url for c in found] == case["found"]
        if "passcodes" in case:
            assert [c.passcode or "" for c in found] == case["passcodes"]


@pytest.mark.parametrize(("expected", "url"), [pytest.param(*row[1:], id=row[0]) for row in JUDGED])
def test_a_url_given_by_hand(expected: str, url: str) -> None:
    verdict = judge(url, OWN)
    assert (verdict.link.platform if verdict.link else verdict.refusal) == expected
    assert (verdict.link is None) != (verdict.refusal is None)


def test_spellings_of_one_meeting_share_a_key_and_two_meetings_never_do() -> None:
    keys: defaultdict[str, set[str | None]] = defaultdict(set)
    for meeting, url in KEYS:
        keys[meeting].add(canonical_key(url))
    assert {meeting: found for meeting, found in keys.items() if len(found) > 1 or None in found} == {}
    assert len({key for found in keys.values() for key in found}) == len(keys)


def test_a_trusted_address_of_an_unknown_product_has_a_key() -> None:
    url = "https://meet.unknown.example/r/1?room=2"
    assert canonical_key(url) is None
    assert canonical_key(url, is_trusted=True) == "unknown:meet.unknown.example/r/1?room=2"
    assert canonical_key("https://zoom.us/j/123456789", is_trusted=True) == "zoom:123456789"
    assert canonical_key("http://meet.unknown.example/r/1", is_trusted=True) is None


@pytest.mark.parametrize(("platform", "url"), [pytest.param(*row[1:], id=row[0]) for row in URLS])
def test_what_is_found_has_a_key_and_is_acceptable_by_hand(platform: str, url: str) -> None:
    key = canonical_key(url)
    if platform == "-":
        assert key is None
        assert judge(url).link is None
        return
    assert key is not None
    assert key.startswith(f"{platform}:")
    verdict = judge(url)
    assert (verdict.link.key if verdict.link else verdict.refusal) == (
        "scheme_not_allowed" if url.startswith("http:") else key
    )
