"""Why the token endpoint refuses, by AADSTS number ("Microsoft Entra authentication and authorization error codes").

Clients branch on `error`; numbers and texts are for people and may change. Texts are shortened where they explain.
"""

from typing import NamedTuple


class Reason(NamedTuple):
    """HTTP status, OAuth `error`, `suberror`, and a text to fill in: user, issuer, tenant, client, issued, detail."""

    status: int
    error: str
    suberror: str | None
    text: str


_GRANT, _ASKED, _CLIENT, _USER = "invalid_grant", "invalid_request", "invalid_client", "interaction_required"
_BUSY = "temporarily_unavailable"

REASONS: dict[int, Reason] = {
    50020: Reason(400, _GRANT, None, "User account '{user}' from '{issuer}' does not exist in tenant '{tenant}'."),
    50034: Reason(400, _GRANT, None, "The user account {user} does not exist in the {tenant} directory."),
    50057: Reason(400, _GRANT, None, "The user account is disabled."),
    50076: Reason(400, _USER, "basic_action", "You must use multi-factor authentication to access '{client}'."),
    50079: Reason(400, _USER, "basic_action", "You must enroll in multi-factor authentication to access '{client}'."),
    50173: Reason(
        400,
        _GRANT,
        "bad_token",
        "The provided grant has expired due to it being revoked, a fresh auth token is needed.",
    ),
    50194: Reason(400, _ASKED, None, "Application '{client}' is not configured as a multi-tenant application."),
    50196: Reason(400, _GRANT, None, "The server terminated an operation because it encountered a request loop."),
    53000: Reason(400, _GRANT, "message_only", "Device is not in required device state: compliant."),
    53003: Reason(400, _GRANT, "message_only", "Access has been blocked by Conditional Access policies."),
    54005: Reason(400, _GRANT, None, "OAuth2 Authorization code was already redeemed, please retry with a new code."),
    65001: Reason(
        400,
        _GRANT,
        "consent_required",
        "The user or administrator has not consented to use the application '{client}'.",
    ),
    70000: Reason(400, _GRANT, None, "The provided value for the input parameter 'refresh_token' is not valid."),
    70003: Reason(400, "unsupported_grant_type", None, "The app returned an unsupported grant type '{detail}'."),
    70008: Reason(
        400, _GRANT, "token_expired", "The provided authorization code or refresh token has expired due to inactivity."
    ),
    70011: Reason(400, "invalid_scope", None, "The value of the input parameter 'scope' is not valid: '{detail}'."),
    70012: Reason(503, _BUSY, None, "A server error occurred while authenticating an MSA (consumer) user."),
    70043: Reason(400, _GRANT, "bad_token", "The refresh token has expired or is invalid: sign-in frequency checks."),
    70044: Reason(400, _GRANT, None, "The session has expired or is invalid due to sign-in frequency checks."),
    90002: Reason(400, _ASKED, None, "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."),
    90014: Reason(400, _ASKED, None, "The required field '{detail}' is missing from the credential."),
    90033: Reason(503, _BUSY, None, "A transient error has occurred. Please try again."),
    501481: Reason(400, _GRANT, None, "The Code_Verifier does not match the code_challenge supplied in the request."),
    500011: Reason(400, "invalid_resource", None, "The resource principal was not found in the tenant {tenant}."),
    500014: Reason(400, _ASKED, None, "The service principal for resource '{client}' is disabled."),
    700016: Reason(
        400, "unauthorized_client", None, "Application '{client}' was not found in the directory '{tenant}'."
    ),
    700082: Reason(
        400,
        _GRANT,
        "token_expired",
        "The refresh token has expired due to inactivity. The token was issued on {issued} and was inactive for "
        "90.00:00:00.",
    ),
    700084: Reason(
        400, _GRANT, "token_expired", "The refresh token was issued to a single page app (SPA): a life of 1.00:00:00."
    ),
    900144: Reason(400, _ASKED, None, "The request body must contain the following parameter: '{detail}'."),
    7000112: Reason(400, _ASKED, None, "Application '{client}'(sandbox) is disabled."),
    7000215: Reason(401, _CLIENT, None, "Invalid client secret provided for app '{client}'. Not the secret ID."),
    7000218: Reason(401, _CLIENT, None, "The request body must contain 'client_assertion' or 'client_secret'."),
    7000222: Reason(401, _CLIENT, None, "The provided client secret keys for app '{client}' are expired."),
    9002313: Reason(400, _ASKED, None, "Invalid request. Request is malformed or invalid."),
}

UNKNOWN = Reason(400, "invalid_grant", None, "The request was refused.")
"""A number that is not in the list: numbers are added and retired all the time."""
