"""How an answer is read: Retry-After in both its forms, and JSON that is not quite JSON."""

import pytest

from app.errors import ProviderContract
from app.providers.http import LONGEST_DEFERRAL, parse_json, retry_after

DATE = "Fri, 20 Mar 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, None),
        ({"retry-after": " 120 "}, 120.0),
        ({"retry-after": "Fri, 20 Mar 2026 10:02:00 GMT", "date": DATE}, 120.0),
        ({"retry-after": "Fri, 20 Mar 2026 09:00:00 GMT", "date": DATE}, None),
        ({"retry-after": "Fri, 20 Mar 2026 10:02:00 -0000", "date": DATE}, 120.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({"retry-after": "9" * 400}, LONGEST_DEFERRAL),
        ({"retry-after": "Fri, 20 Mar 2099 10:00:00 GMT", "date": DATE}, LONGEST_DEFERRAL),
        ({"retry-after": "Fri, 20 Mar 2099 10:00:00 GMT", "date": "today"}, LONGEST_DEFERRAL),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 99 Mar 99999 10:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_lone_surrogate_or_a_stray_byte_does_not_cost_the_answer() -> None:
    assert parse_json(b'{"a": "\\ud800", "b": 1}') == {"a": "\ud800", "b": 1}
    assert parse_json(b'{"a": "\xff", "b": 1}') == {"a": "\udcff", "b": 1}


@pytest.mark.parametrize("body", [b"<html>", b"{", b'"\\ud800', b"[" * 100_000])
def test_what_is_no_json_breaks_the_contract(body: bytes) -> None:
    with pytest.raises(ProviderContract):
        parse_json(body)
