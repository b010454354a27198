"""How the small answers of a provider are read, and the one that all of OAuth shares: a token (RFC 6749, 5.1); pure."""

from collections.abc import Callable
from typing import Any

from app.errors import GrantRevoked, ProviderContract
from app.providers.base import TokenAnswer
from app.providers.items import is_storable


def read_token(answer: object, *, is_calendar_scope: Callable[[str], bool]) -> TokenAnswer:
    """A refresh's answer. GrantRevoked `scope_missing` where the scopes are stated and none reads calendars.

    ProviderContract where there is no token that could be sent, or no lifetime.
    """
    fields = fields_of(answer, "a token")
    token, lives_for, scope = fields.get("access_token"), fields.get("expires_in"), fields.get("scope")
    if not isinstance(token, str) or not token or not token.isascii() or isinstance(lives_for, bool):
        raise ProviderContract("a token answer has no token")
    if not isinstance(lives_for, int | float) or not 0 < lives_for < 10_000_000:
        raise ProviderContract("a token answer has no lifetime")
    scope = scope if isinstance(scope, str) else None
    if scope is not None and not any(map(is_calendar_scope, scope.split())):
        raise GrantRevoked("the grant holds no calendar scope", reason="scope_missing")
    return TokenAnswer(
        access_token=token, lives_for=float(lives_for), refresh_token=text_in(fields.get("refresh_token")), scope=scope
    )


def fields_of(answer: object, what: str) -> dict[str, Any]:
    """The answer as an object. ProviderContract."""
    if not isinstance(answer, dict):
        raise ProviderContract(f"{what} could not be read")
    return answer


def text_in(value: object) -> str | None:
    """A text fit to be stored; None for anything else, the empty text too."""
    return value if isinstance(value, str) and value and is_storable(value) else None


def needed(value: object, what: str) -> str:
    """The same where there must be one. ProviderContract."""
    text = text_in(value)
    if text is None:
        raise ProviderContract(f"{what} has no id")
    return text
