"""Which headers a customer may have sent along. Pure.

A customer's headers name the receiver's tenant or carry its key. None may change where a request goes, how its body is
framed, what is signed or what a proxy believes of it, and none may open the door of a cloud's metadata service, which
asks for a header of its own.
"""

import re
from collections.abc import Mapping

MAX_NAME = 128
MAX_VALUE = 1_024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A field name of RFC 9110, 5.6.2."""
_VISIBLE = re.compile(r"[\x21-\x7e]+( +[\x21-\x7e]+)*")
_REFUSED = frozenset(
    {
        "host",
        # how a message is framed, and what one connection means (RFC 9110, 7.6; RFC 9112)
        "connection",
        "expect",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # ours
        "accept",
        "accept-encoding",
        "date",
        "user-agent",
        # of browsers and of answers
        "cookie",
        "cookie2",
        "set-cookie",
        "set-cookie2",
        # what a proxy says, and an application behind it believes
        "cf-connecting-ip",
        "client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-real-ip",
        # what makes another request of it
        "range",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-rewrite-url",
        # without which a cloud's metadata service refuses (Azure, Google, Oracle has "authorization: Bearer Oracle")
        "metadata",
        "metadata-flavor",
        "x-google-metadata-request",
    }
)
_REFUSED_PREFIXES = (
    "content-",
    "if-",
    "proxy-",
    "webhook-",
    "x-aliyun-ecs-metadata-",
    "x-aws-ec2-metadata-",
    "x-forwarded-",
    "x-original-",
    "x-smokescreen-",
)


def header_problem(name: str, value: str) -> tuple[str, str] | None:
    """What is wrong with a customer's header, as (code, message); None where it may be sent.

    Names are tokens of RFC 9110 in any case; values are visible ASCII, blanks inside them allowed.
    """
    if not _TOKEN.fullmatch(name):
        return "invalid_header_name", "a name is made of letters, digits and !#$%&'*+-.^_`|~"
    if len(name) > MAX_NAME:
        return "too_long", f"a name has at most {MAX_NAME} characters"
    if _is_refused(name):
        return "header_not_allowed", "this header is not the customer's to set"
    if not value:
        return "blank", "a value is needed"
    if len(value) > MAX_VALUE:
        return "too_long", f"a value has at most {MAX_VALUE:,} characters"
    if not _VISIBLE.fullmatch(value):
        return "invalid_header_value", "a value is visible ASCII characters, and blanks between them"
    if name.lower() == "authorization" and value.lower() == "bearer oracle":
        return "header_not_allowed", "this value opens a metadata service"
    return None


def with_customers(ours: Mapping[str, str], customers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of a request: ours, and those of the customer that may be sent and do not repeat one of ours."""
    if not customers:
        return ours
    taken = {_as_read(name) for name in ours}
    return {
        **{
            name: value
            for name, value in customers.items()
            if _as_read(name) not in taken and header_problem(name, value) is None
        },
        **ours,
    }


def _is_refused(name: str) -> bool:
    read = _as_read(name)
    return read in _REFUSED or read.startswith(_REFUSED_PREFIXES)


def _as_read(name: str) -> str:
    """A name as CGI, WSGI and their like hand it on: to them, `Webhook_Id` and `webhook-id` are one header."""
    return name.lower().replace("_", "-")
