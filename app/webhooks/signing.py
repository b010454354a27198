"""Standard Webhooks signatures: the very bytes that are sent, under every key that is valid now.

Specification 1.0.0, standard-webhooks/spec/standard-webhooks.md: the signed content is `id.timestamp.body`, a
signature is its scheme, a comma and base64. `v1` is HMAC-SHA256 under a secret that both sides have (`whsec_`), `v1a`
is Ed25519 under a private key (`whsk_`) whose public half (`whpk_`) the receiver has. Several signatures are separated
by spaces, which is how a key rotates without a gap. The timestamp is that of the attempt, in whole seconds of real
time: receivers refuse what is older than five minutes.
"""

import base64
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.crypto import PRIVATE_KEY_PREFIX, SECRET_PREFIX

_SEED_BYTES = 32
"""Of an Ed25519 private key (RFC 8032); a `whsk_` may append the public half to it, as ours does and Svix's."""


def sign(keys: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`, one entry per key (`whsec_` or `whsk_`), the current one first.

    ValueError for anything else: a message never goes out with a signature missing.
    """
    if not keys:
        raise ValueError("nothing to sign with")
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(_signature(key, content) for key in keys)


def signed_headers(keys: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that a receiver verifies; `message_id` is the same for every attempt."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, message_id=message_id, timestamp=timestamp, body=body),
    }


def _signature(key: str, content: bytes) -> str:
    if key.startswith(SECRET_PREFIX):
        secret = base64.b64decode(key.removeprefix(SECRET_PREFIX), validate=True)
        scheme, signature = "v1", hmac.digest(secret, content, "sha256")
    elif key.startswith(PRIVATE_KEY_PREFIX):
        pair = base64.b64decode(key.removeprefix(PRIVATE_KEY_PREFIX), validate=True)
        scheme, signature = "v1a", Ed25519PrivateKey.from_private_bytes(pair[:_SEED_BYTES]).sign(content)
    else:
        raise ValueError("neither whsec_ nor whsk_")
    return f"{scheme},{base64.b64encode(signature).decode()}"
