"""What an endpoint's messages are signed with, at rest and in turn.

The current key stands in the endpoint's row. A rotation puts it among the old ones, which sign too until their grace
is over, so that a receiver may change over whenever it likes within it. Each is sealed for its own row; one that does
not open stops the message: nothing goes out unsigned, or signed with a key that was put in its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple
from uuid import UUID

import orjson

from app.crypto import Cipher, Place, new_webhook_pair, new_webhook_secret
from app.db import Tx
from app.errors import Conflict, NotFound
from app.ids import new_id
from app.webhooks.signing import Signer, signers

OLD_MOST = 10
"""Old keys that may sign beside the current one: the signature header stays below 1.2 kB."""

SIGNERS_KEPT = 512
"""Sets of opened keys, one per endpoint."""

SECRET_LEAST = 8
"""Characters of a header's value that an answer may not repeat."""

Signature = Literal["v1", "v1a"]

OLD_SECRETS: Final = """
LEFT JOIN LATERAL (
    SELECT array_agg(s.id ORDER BY s.created_at DESC, s.id) AS ids,
           array_agg(s.secret_sealed ORDER BY s.created_at DESC, s.id) AS sealed
    FROM webhook_secrets s WHERE s.endpoint_id = e.id AND s.expires_at > (SELECT app_now())
) old ON true
"""
"""Joins to an endpoint `e` its old keys that sign still, newest first; both columns are null where it has none."""

_LOCK = """
SELECT signature, secret_sealed FROM webhook_endpoints
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL FOR NO KEY UPDATE
"""

_COUNT = "SELECT count(*) FROM webhook_secrets WHERE endpoint_id = :id AND expires_at > app_now()"

_KEEP = """
INSERT INTO webhook_secrets (id, endpoint_id, secret_sealed, expires_at)
VALUES (:id, :endpoint, :sealed, app_now() + make_interval(secs => :grace))
"""

_REPLACE = """
UPDATE webhook_endpoints SET secret_sealed = :sealed, public_key = :public_key, updated_at = app_now()
 WHERE id = :id RETURNING app_now() + make_interval(secs => :grace) AS previous_expires_at
"""


class SealedSecret(NamedTuple):
    """A key as it is stored, and the place that it was sealed for."""

    place: Place
    sealed: bytes


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `text` is to be sealed; of an asymmetric one the owner sees `public_key` alone."""

    text: str
    public_key: str | None

    @property
    def shown(self) -> str | None:
        """The secret that the owner has to know, this once."""
        return self.text if self.public_key is None else None


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key that signs from now on, and until when its predecessor does too."""

    key: NewKey
    previous_expires_at: datetime


def new_key(signature: Signature) -> NewKey:
    """A fresh key of a scheme."""
    if signature == "v1":
        return NewKey(new_webhook_secret(), None)
    pair = new_webhook_pair()
    return NewKey(pair.private, pair.public)


def current_place(endpoint_id: UUID) -> Place:
    """Where the key that signs first is sealed."""
    return Place("webhook_endpoints", "secret", endpoint_id)


def sealed_secrets(
    endpoint_id: UUID, current: bytes, old_ids: Sequence[UUID] | None, old: Sequence[bytes] | None
) -> tuple[SealedSecret, ...]:
    """All that sign for an endpoint, the current one first; the last two as OLD_SECRETS gives them."""
    return (
        SealedSecret(current_place(endpoint_id), current),
        *(SealedSecret(_old_place(key), sealed) for key, sealed in zip(old_ids or (), old or (), strict=True)),
    )


@lru_cache(maxsize=SIGNERS_KEPT)
def open_signers(cipher: Cipher, secrets: tuple[SealedSecret, ...]) -> tuple[Signer, ...]:
    """What signs with these, in the same order; SealBroken where one does not open.

    Kept for the endpoints that were busy last: opening a key and reading it costs as much as signing, and far more for
    Ed25519. Whoever reads this process's memory has the keyring anyhow.
    """
    return signers([cipher.open(secret.sealed, secret.place) for secret in secrets])


def seal_headers(cipher: Cipher, endpoint_id: UUID, headers: Mapping[str, str]) -> bytes | None:
    """The customer's own headers as they are stored; None where there are none."""
    return cipher.seal(orjson.dumps(dict(headers)), _headers_place(endpoint_id)) if headers else None


def open_headers(cipher: Cipher, endpoint_id: UUID, sealed: bytes | None) -> dict[str, str]:
    """What `seal_headers` stored; SealBroken where it does not open."""
    if sealed is None:
        return {}
    headers: dict[str, str] = orjson.loads(cipher.open_bytes(sealed, _headers_place(endpoint_id)))
    return headers


def without_values(answer: str, headers: Mapping[str, str]) -> str:
    """An answer for the log, without the customer's header values that a receiver may have echoed.

    Of a value with blanks each word counts ("Bearer …"); what is shorter than SECRET_LEAST is no secret.
    """
    words = {word for value in headers.values() for word in (value, *value.split()) if len(word) >= SECRET_LEAST}
    for word in sorted(words, key=len, reverse=True):
        answer = answer.replace(word, "[removed]")
        for length in range(min(len(word) - 1, len(answer)), SECRET_LEAST - 1, -1):  # cut off at the end
            if answer.endswith(word[:length]):
                answer = f"{answer[:-length]}[removed]"
                break
    return answer


async def rotate(tx: Tx, cipher: Cipher, *, project_id: UUID, endpoint_id: UUID, grace_seconds: int) -> Rotated:
    """Give the endpoint a new key of its scheme; the one before signs for `grace_seconds` more.

    A rotation beside this one waits for the endpoint's row, and then replaces the key made here. Without a grace the
    key before is not looked at, so that one which does not open any more can be replaced. NotFound; Conflict
    (`too_many_secrets`) where OLD_MOST sign still.
    """
    endpoint = await tx.row(_LOCK, {"project": project_id, "id": endpoint_id})
    if endpoint is None:
        raise NotFound
    if grace_seconds:
        if await tx.scalar(_COUNT, {"id": endpoint_id}) >= OLD_MOST:
            raise Conflict(f"{OLD_MOST} old secrets sign still", code="too_many_secrets")
        old_id, text = new_id(), cipher.open(endpoint.secret_sealed, current_place(endpoint_id))
        kept = {"id": old_id, "endpoint": endpoint_id, "sealed": cipher.seal(text, _old_place(old_id))}
        await tx.execute(_KEEP, kept | {"grace": grace_seconds})
    key = new_key(endpoint.signature)
    sealed = cipher.seal(key.text, current_place(endpoint_id))
    replaced = {"id": endpoint_id, "sealed": sealed, "public_key": key.public_key, "grace": grace_seconds}
    return Rotated(key, await tx.scalar(_REPLACE, replaced))


def _old_place(secret_id: UUID) -> Place:
    return Place("webhook_secrets", "secret", secret_id)


def _headers_place(endpoint_id: UUID) -> Place:
    return Place("webhook_endpoints", "headers", endpoint_id)
