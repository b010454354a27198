"""Secrets at rest, and API keys.

Sealed values are AES-256-GCM under a keyring: `v1|key id|nonce|ciphertext`. The additional data names table,
column and row, so that a ciphertext moved to another row does not open. API keys are random enough that a plain
SHA-256 is their store form; the checksum at their end lets scanners recognise a leaked one without asking us.
"""

import base64
import hashlib
import hmac
import os
import secrets
import zlib
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import PunctualError
from app.ids import KEY, parse, public

_NONCE_BYTES = 12
_API_KEY_PREFIX = "punctual"

# What Standard Webhooks' keys start with; base64 follows.
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix
PRIVATE_KEY_PREFIX = "whsk_"
PUBLIC_KEY_PREFIX = "whpk_"


class SealBroken(PunctualError):
    """A sealed value does not open: wrong keyring, or it was moved from another row."""

    code, title = "seal_broken", "A stored secret could not be opened"


class Place(NamedTuple):
    """Where a sealed value lives: bound into it."""

    table: str
    column: str
    row: UUID

    def aad(self) -> bytes:
        return f"{self.table}|{self.column}|{self.row}".encode()


class Cipher:
    """Seals with the first key of the ring, opens with any."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._ring = {name: AESGCM(key) for name, key in keys.items()}
        self._first = next(iter(keys))

    def seal(self, plain: str | bytes, place: Place) -> bytes:
        """Encrypt `plain` for one place."""
        nonce = os.urandom(_NONCE_BYTES)
        data = plain.encode() if isinstance(plain, str) else plain
        head = f"v1|{self._first}|".encode()
        return head + nonce + self._ring[self._first].encrypt(nonce, data, place.aad())

    def open_bytes(self, sealed: bytes, place: Place) -> bytes:
        """Decrypt what `seal` made for the same place; SealBroken otherwise."""
        version, _, rest = sealed.partition(b"|")
        name, _, body = rest.partition(b"|")
        key = self._ring.get(name.decode("ascii", "replace"))
        if version != b"v1" or key is None:
            raise SealBroken(f"no key opens {place.table}.{place.column}")
        try:
            return key.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], place.aad())
        except InvalidTag as exc:
            raise SealBroken(f"{place.table}.{place.column} was not sealed for this row") from exc

    def open(self, sealed: bytes, place: Place) -> str:
        """`open_bytes` as text."""
        return self.open_bytes(sealed, place).decode()


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A freshly made key: `text` is shown once, `secret_hash` is stored."""

    text: str
    secret_hash: bytes


def make_api_key(key_id: UUID) -> NewApiKey:
    """A key for the row `key_id`: prefix, id, 256 random bits, CRC-32 of all before it."""
    body = f"{_API_KEY_PREFIX}_{public(KEY, key_id).removeprefix(KEY + '_')}_{secrets.token_hex(32)}"
    return NewApiKey(text=f"{body}{_checksum(body)}", secret_hash=hash_secret(body.rsplit("_", 1)[1]))


def read_api_key(text: str) -> tuple[UUID, bytes] | None:
    """Row id and secret's hash of a presented key; None where it cannot be one."""
    parts = text.split("_")
    if len(text) > 200 or len(parts) != 3 or parts[0] != _API_KEY_PREFIX or not text.isascii():
        return None
    body, checksum = text[:-8], text[-8:]
    key_id = parse(KEY, f"{KEY}_{parts[1]}")
    if key_id is None or not hmac.compare_digest(checksum, _checksum(body)):
        return None
    return key_id, hash_secret(parts[2][:-8])


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def hash_secret(secret: str) -> bytes:
    """Store form of a random secret of 160 bits or more."""
    return hashlib.sha256(secret.encode()).digest()


def same(left: bytes, right: bytes) -> bool:
    """Constant-time equality."""
    return hmac.compare_digest(left, right)


def new_webhook_secret() -> str:
    """A Standard Webhooks symmetric secret: `whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(os.urandom(32)).decode()


@dataclass(frozen=True, slots=True)
class SigningPair:
    """An asymmetric key of Standard Webhooks (Ed25519): `private` is sealed, `public` is for the receiver."""

    private: str
    public: str


def new_webhook_pair() -> SigningPair:
    """A fresh pair, `whsk_` and `whpk_`. The private text holds both halves, as other implementations write it."""
    key = Ed25519PrivateKey.generate()
    public_half = key.public_key().public_bytes_raw()
    pair = base64.b64encode(key.private_bytes_raw() + public_half).decode()
    return SigningPair(PRIVATE_KEY_PREFIX + pair, PUBLIC_KEY_PREFIX + base64.b64encode(public_half).decode())


def new_channel_token() -> str:
    """The secret that a provider must repeat with each notification of one push channel."""
    return secrets.token_urlsafe(32)
