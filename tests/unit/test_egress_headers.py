"""Headers that customers want sent along: which are, and what is wrong with the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.egress import header_problem
from app.egress.headers import MAX_NAME, MAX_VALUE, with_customers


def words(text: str) -> list[str]:
    return text.split()


REFUSED = words("""
host content-type Content-Length content-encoding content-x transfer-encoding connection keep-alive te trailer
upgrade http2-settings proxy-authorization Proxy-Connection expect cookie set-cookie webhook-id
Webhook-Signature webhook-timestamp webhook_id Content_Length user-agent accept accept-encoding x-forwarded-for
X-Forwarded-Host X_Forwarded_Proto forwarded via x-real-ip true-client-ip max-forwards range if-match date
x-http-method-override x-original-url metadata Metadata-Flavor x-aws-ec2-metadata-token
x-aws-ec2-metadata-token-ttl-seconds x-google-metadata-request X-Smokescreen-Role
""")


@pytest.mark.parametrize("name", REFUSED)
def test_headers_that_are_not_the_customers(name: str) -> None:
    problem = header_problem(name, "x")
    assert problem is not None
    assert problem[0] == "header_not_allowed"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("", "x", "invalid_header_name"),
        ("x y", "x", "invalid_header_name"),
        ("x:", "x", "invalid_header_name"),
        (":path", "x", "invalid_header_name"),
        ("x\r\ny", "x", "invalid_header_name"),
        ("x-key\n", "x", "invalid_header_name"),
        ("x-é", "x", "invalid_header_name"),
        ("x-\u212aey", "x", "invalid_header_name"),  # the Kelvin sign, which lower() turns into k
        ("x" * (MAX_NAME + 1), "x", "too_long"),
        ("x-key", "", "blank"),
        ("x-key", "x" * (MAX_VALUE + 1), "too_long"),
        ("x-key", "a\r\nhost: b", "invalid_header_value"),
        ("x-key", "a\n", "invalid_header_value"),
        ("x-key", "a\0b", "invalid_header_value"),
        ("x-key", "a\tb", "invalid_header_value"),
        ("x-key", "a\x7fb", "invalid_header_value"),
        ("x-key", " a", "invalid_header_value"),
        ("x-key", "a ", "invalid_header_value"),
        ("x-key", "é", "invalid_header_value"),
        ("Authorization", "Bearer Oracle", "header_not_allowed"),
    ],
)
def test_headers_that_are_no_headers(name: str, value: str, code: str) -> None:
    problem = header_problem(name, value)
    assert problem is not None
    assert problem[0] == code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer abc.def-_="),
        ("X-Api-Key", "k" * MAX_VALUE),
        ("x" * MAX_NAME, "a b  c"),
        ("x-tenant", '{"a": "b"}'),
        ("contents", "x"),
        ("hostess", "x"),
    ],
)
def test_headers_that_are_sent(name: str, value: str) -> None:
    assert header_problem(name, value) is None


@given(name=st.text(max_size=20), value=st.text(max_size=20))
def test_what_may_be_sent_is_one_line_of_a_request(name: str, value: str) -> None:
    if header_problem(name, value) is None:
        line = f"{name}: {value}".encode("ascii")
        assert line.split(b": ", 1) == [name.encode(), value.encode()]
        assert len(line.splitlines()) == 1
        assert line.strip() == line


def test_ours_win() -> None:
    ours = {"content-type": "application/json", "x-ours": "1"}
    theirs = {"X-Ours": "2", "x_ours": "3", "Host": "evil.example", "x-theirs": "4", "x-bad": "a\r\nb: c"}
    assert with_customers(ours, theirs) == {"x-theirs": "4", **ours}
