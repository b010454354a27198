"""Standard Webhooks signatures: the very bytes that are sent, under every key that is valid now.

Specification 1.0.0, standard-webhooks/spec/standard-webhooks.md: the signed content is `id.timestamp.body`, a
signature is its scheme, a comma and base64. `v1` is HMAC-SHA256 under a secret that both sides have (`whsec_`), `v1a`
is Ed25519 under a private key (`whsk_`) whose public half (`whpk_`) the receiver has. Several signatures are separated
by spaces, which is how a key rotates without a gap. The timestamp is that of the attempt, in whole seconds of real
time: receivers refuse what is older than five minutes.
"""

import base64
import hmac
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.crypto import PRIVATE_KEY_PREFIX, SECRET_PREFIX

_SEED_BYTES = 32
"""Of an Ed25519 private key (RFC 8032); a `whsk_` may append the public half to it, as ours does and Svix's."""

Signer = Callable[[bytes], str]
"""A key ready to sign: from the signed content to one entry of `webhook-signature`."""


def signers(keys: Sequence[str]) -> tuple[Signer, ...]:
    """What signs with these keys (`whsec_` or `whsk_`), in their order; ValueError for anything else."""
    return tuple(map(_signer, keys))


def sign(signers: Sequence[Signer], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`, one entry per key, the current one first.

    ValueError without any: a message never goes out with a signature missing.
    """
    if not signers:
        raise ValueError("nothing to sign with")
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join([signed(content) for signed in signers])


def signed_headers(signers: Sequence[Signer], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that a receiver verifies; `message_id` is the same for every attempt."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(signers, message_id=message_id, timestamp=timestamp, body=body),
    }


def _signer(key: str) -> Signer:
    if key.startswith(SECRET_PREFIX):
        secret = base64.b64decode(key.removeprefix(SECRET_PREFIX), validate=True)
        return lambda content: _entry("v1", hmac.digest(secret, content, "sha256"))
    if key.startswith(PRIVATE_KEY_PREFIX):
        pair = base64.b64decode(key.removeprefix(PRIVATE_KEY_PREFIX), validate=True)
        private = Ed25519PrivateKey.from_private_bytes(pair[:_SEED_BYTES])
        return lambda content: _entry("v1a", private.sign(content))
    raise ValueError("neither whsec_ nor whsk_")


def _entry(scheme: str, signature: bytes) -> str:
    return f"{scheme},{base64.b64encode(signature).decode()}"
