"""Signatures, judged by the specification's own library and by vectors of another implementation."""

import base64
import os
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from app.crypto import new_webhook_pair, new_webhook_secret
from app.webhooks.signing import sign, signed_headers, signers


def test_vector_of_svix() -> None:
    # svix-webhooks, server tests; the same in standard-webhooks' libraries
    signature = sign(
        signers(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]),
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


PAIR_OF_SVIX = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="


@pytest.mark.parametrize("length", [32, 64])
def test_asymmetric_vector_of_svix(length: int) -> None:
    """svix-webhooks, server/svix-server/src/worker.rs, test_asymmetric_key_signing. The public half may be missing."""
    key = base64.b64encode(base64.b64decode(PAIR_OF_SVIX)[:length]).decode()
    signature = sign(
        signers([f"whsk_{key}"]),
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    expected = "hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
    assert signature == f"v1a,{expected}"


def verify_asymmetric(public_key: str, headers: dict[str, str], body: bytes) -> None:
    """The receiver's side of v1a, from the specification."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    scheme, _, signature = headers["webhook-signature"].partition(",")
    assert scheme == "v1a"
    key.verify(base64.b64decode(signature), f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body)


@given(body=st.binary())
def test_a_public_key_verifies_what_its_private_one_signed(body: bytes) -> None:
    pair, other = new_webhook_pair(), new_webhook_pair()
    headers = signed_headers(signers([pair.private]), message_id="msg_1", timestamp=1, body=body)
    verify_asymmetric(pair.public, headers, body)
    for key, told in ((pair.public, body + b" "), (other.public, body)):
        with pytest.raises(InvalidSignature):
            verify_asymmetric(key, headers, told)


def test_keys_of_both_schemes_sign_side_by_side() -> None:
    secret, pair, now = new_webhook_secret(), new_webhook_pair(), int(datetime.now(UTC).timestamp())
    headers = signed_headers(signers([pair.private, secret]), message_id="msg_1", timestamp=now, body=b"{}")
    assert [entry.partition(",")[0] for entry in headers["webhook-signature"].split()] == ["v1a", "v1"]
    Webhook(secret).verify(b"{}", headers)
    verify_asymmetric(pair.public, headers | {"webhook-signature": headers["webhook-signature"].split()[0]}, b"{}")


@pytest.mark.parametrize("keys", [[], [""], ["whpk_MfKQ"], ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], ["whsk_MfKQ"]])
def test_nothing_is_signed_with_what_is_no_key(keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        sign(signers([*keys, *keys]), message_id="m", timestamp=1, body=b"{}")


@given(body=st.text().map(str.encode))
def test_official_library_accepts(body: bytes) -> None:
    secret, now = new_webhook_secret(), int(datetime.now(UTC).timestamp())
    headers = signed_headers(signers([secret]), message_id="msg_1", timestamp=now, body=body)
    Webhook(secret).verify(body, headers, json_parse=False)


def test_each_secret_alone_verifies_during_rotation() -> None:
    secrets, now = [new_webhook_secret() for _ in range(3)], int(datetime.now(UTC).timestamp())
    headers = signed_headers(signers(secrets), message_id="msg_1", timestamp=now, body=b"{}")
    assert headers["webhook-signature"].count(" ") == 2
    for secret in secrets:
        Webhook(secret).verify(b"{}", headers)


@pytest.mark.parametrize("changed", ["body", "id", "timestamp", "secret"])
def test_a_change_is_noticed(changed: str) -> None:
    secret, now = new_webhook_secret(), int(datetime.now(UTC).timestamp())
    headers = signed_headers(signers([secret]), message_id="msg_1", timestamp=now, body=b"{}")
    body = b"[]" if changed == "body" else b"{}"
    if changed == "id":
        headers["webhook-id"] = "msg_2"
    if changed == "timestamp":
        headers["webhook-timestamp"] = str(now + 1)
    if changed == "secret":
        secret = new_webhook_secret()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_bytes_that_are_no_text_are_signed_as_they_are() -> None:
    secret = "whsec_" + base64.b64encode(os.urandom(24)).decode()
    assert sign(signers([secret]), message_id="m", timestamp=1, body=b"\xff\x00").startswith("v1,")
