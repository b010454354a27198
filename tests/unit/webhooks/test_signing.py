"""Signatures, judged by the specification's own library and by a vector of another implementation."""

import base64
import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from app.crypto import new_webhook_secret
from app.webhooks.signing import sign, signed_headers


def test_vector_of_svix() -> None:
    # svix-webhooks, server tests; the same in standard-webhooks' libraries
    signature = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.text().map(str.encode))
def test_official_library_accepts(body: bytes) -> None:
    secret, now = new_webhook_secret(), int(datetime.now(UTC).timestamp())
    headers = signed_headers([secret], message_id="msg_1", timestamp=now, body=body)
    Webhook(secret).verify(body, headers, json_parse=False)


def test_each_secret_alone_verifies_during_rotation() -> None:
    secrets, now = [new_webhook_secret() for _ in range(3)], int(datetime.now(UTC).timestamp())
    headers = signed_headers(secrets, message_id="msg_1", timestamp=now, body=b"{}")
    assert headers["webhook-signature"].count(" ") == 2
    for secret in secrets:
        Webhook(secret).verify(b"{}", headers)


@pytest.mark.parametrize("changed", ["body", "id", "timestamp", "secret"])
def test_a_change_is_noticed(changed: str) -> None:
    secret, now = new_webhook_secret(), int(datetime.now(UTC).timestamp())
    headers = signed_headers([secret], message_id="msg_1", timestamp=now, body=b"{}")
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
    assert sign([secret], message_id="m", timestamp=1, body=b"\xff\x00").startswith("v1,")
