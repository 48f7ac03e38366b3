"""What a browser's subscription asks for: messages encrypted for it, and calls signed by us.

The Web Push adapter asks here for a request's body (RFC 8291 in the coding of RFC 8188, one record)
and for its header that says who sends it (VAPID, RFC 8292). Nothing here knows of HTTP or messages.
"""

import base64
import os
from collections.abc import Callable
from datetime import datetime, timedelta

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from comms.platform.clock import Clock, utc_now

RECORD_SIZE = 4096  # bytes; what every push service takes
LIFETIME = timedelta(hours=12)  # of a signed header; 24 h at most
RENEWED = timedelta(hours=1)  # before its end it is not used any more
MOST_ORIGINS = 100  # whose headers are kept; messages name them, so there must be an end

_CURVE = ec.SECP256R1()
_LAST_RECORD = b"\x02"
_AUTH_LENGTH = 16


class BadSubscriptionError(ValueError):
    """The keys of a subscription are none."""


def encrypted(
    text: bytes,
    *,
    p256dh: str,
    auth: str,
    new_key: Callable[[], ec.EllipticCurvePrivateKey] | None = None,
    new_salt: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """The body of a request, which only the subscription's browser can read.

    Args:
        text: of as many bytes as one record holds (`schemas.payloads.WEBPUSH_LIMIT`) at most.
        p256dh, auth: the subscription's keys, in base64url.
        new_key, new_salt: fresh for each message; a test of a published example gives its own.

    Raises:
        BadSubscriptionError: the keys cannot be used.
    """
    theirs, secret = _bytes_of(p256dh), _bytes_of(auth)
    if len(secret) != _AUTH_LENGTH:
        raise BadSubscriptionError("its auth secret is not one of 16 bytes")
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, theirs)
    except ValueError as error:
        raise BadSubscriptionError("its p256dh key is no point of the curve") from error
    key = ec.generate_private_key(_CURVE) if new_key is None else new_key()
    ours, salt = _point(key), new_salt(16)
    shared = key.exchange(ec.ECDH(), point)
    material = _derived(secret, shared, b"WebPush: info\x00" + theirs + ours, 32)
    content_key = _derived(salt, material, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _derived(salt, material, b"Content-Encoding: nonce\x00", 12)
    header = salt + RECORD_SIZE.to_bytes(4, "big") + bytes([len(ours)]) + ours
    return header + AESGCM(content_key).encrypt(nonce, text + _LAST_RECORD, None)


class Vapid:
    """Signs for each push service, once in a while.

    Args:
        subject: how its people reach ours: a `mailto:` or `https:` address.
    """

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, subject: str, *, clock: Clock = utc_now
    ) -> None:
        self._key, self._subject, self._clock = key, subject, clock
        self._public = text_of(_point(key))
        self._signed: dict[str, tuple[datetime, str]] = {}

    def header(self, origin: str) -> str:
        """The value of `Authorization` for a push service."""
        until, value = self._signed.get(origin, (self._clock(), ""))
        if until > self._clock():
            return value
        if len(self._signed) >= MOST_ORIGINS:
            self._signed.clear()
        end = self._clock() + LIFETIME
        claims = {"aud": origin, "exp": int(end.timestamp()), "sub": self._subject}
        value = f"vapid t={jwt.encode(claims, self._key, algorithm='ES256')}, k={self._public}"
        self._signed[origin] = (end - RENEWED, value)
        return value


def read_key(text: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key out of PEM, or out of the 32 bytes in base64url that most tools print.

    Raises:
        ValueError: it is none. The text quotes nothing.
    """
    if "BEGIN" not in text:
        raw = _bytes_of(text.strip())
        if len(raw) != 32:
            raise ValueError("not 32 bytes in base64url")
        return ec.derive_private_key(int.from_bytes(raw, "big"), _CURVE)
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError("cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != _CURVE.name:
        raise ValueError("not of the curve P-256")
    return key


def text_of(data: bytes) -> str:
    """base64url without padding, as these standards write bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes_of(text: str) -> bytes:
    """The bytes; none where it is no base64url."""
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except ValueError:
        return b""


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _derived(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)
