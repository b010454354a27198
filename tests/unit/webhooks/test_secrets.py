"""What a receiver echoes of the customer's headers does not get into the log."""

import pytest

from app.webhooks.secrets import without_values

KEY = "s3cr3t-0123456789"


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (f'{{"authorization": "Bearer {KEY}"}}', '{"authorization": "[removed]"}'),
        (f"you sent {KEY} and {KEY}", "you sent [removed] and [removed]"),
        (f"cut off: {KEY[:12]}", "cut off: [removed]"),
        (f"cut off: Bearer {KEY[:12]}", "cut off: [removed]"),
        (f"too short to tell: {KEY[:7]}", f"too short to tell: {KEY[:7]}"),
        ("tenant 7 is fine, Bearer of news", "tenant 7 is fine, Bearer of news"),
        ("", ""),
    ],
)
def test_values_are_removed(answer: str, kept: str) -> None:
    assert without_values(answer, {"authorization": f"Bearer {KEY}", "x-tenant": "7"}) == kept


def test_without_headers_an_answer_stays_as_it_is() -> None:
    assert without_values(f"Bearer {KEY}", {}) == f"Bearer {KEY}"
