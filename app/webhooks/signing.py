"""Standard Webhooks signatures: the very bytes that are sent, under every secret that is valid now.

Specification 1.0.0, standard-webhooks/spec/standard-webhooks.md: the signed content is `id.timestamp.body`, a
signature is `v1,` and the base64 of its HMAC-SHA256; several are separated by spaces, which is how a secret
rotates without a gap. The timestamp is that of the attempt, in whole seconds of real time: receivers refuse
what is older than five minutes.
"""

import base64
import hmac
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret starts with


def sign(secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`, one entry per secret (`whsec_` and base64), the current one first."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_hmac(secret, content)}" for secret in secrets)


def signed_headers(secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that a receiver verifies; `message_id` is the same for every attempt."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, message_id=message_id, timestamp=timestamp, body=body),
    }


def _hmac(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()
