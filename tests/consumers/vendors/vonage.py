"""Vonage's end of a dialogue, shared by the tests of its adapters: a key pair of its own, answers
as it writes them, and webhooks signed as it signs them.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.consumers.contract.http_suite import Reply

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
APPLICATION = "78d335fa-323d-0114-9c3d-d6f0d48968cf"
ENVIRONMENT = {"VONAGE_APPLICATION_ID": APPLICATION, "VONAGE_PRIVATE_KEY": PEM}
SIGNATURE_SECRET = "the signature secret, at least 32 bytes"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def problem(status: int, kind: str, **more: Any) -> Reply:
    """An error as Vonage writes it; `kind` stands behind its page's address."""
    value = {
        "type": f"https://developer.vonage.com/api-errors{kind}",
        "title": "As documented",
        "detail": "What is wrong",
        "instance": "bf0ca0bf927b3b52e3cb03217e1a1ddf",
        **more,
    }
    return Reply(status, json.dumps(value))


def token(body: bytes, *, secret: str = SIGNATURE_SECRET, **claims: Any) -> str:
    """The token that comes with a webhook, by another library than the one that is under test."""
    signed = {
        "iss": "Vonage",
        "api_key": "abcd1234",
        "iat": int(NOW.timestamp()),
        "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5",
        "payload_hash": hashlib.sha256(body).hexdigest(),
        **claims,
    }
    present = {name: value for name, value in signed.items() if value is not None}
    return jwt.encode(present, secret, algorithm="HS256")


def signed_headers(body: bytes, **claims: Any) -> dict[str, str]:
    """The headers of a webhook."""
    return {
        "authorization": f"Bearer {token(body, **claims)}",
        "content-type": "application/json",
    }
