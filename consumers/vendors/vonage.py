"""Vonage: the account, how it writes errors, and how it signs what it sends us.

Its text and voice adapters read their tables and answers here; their receipt parsers ask here
whether a request is Vonage's. Calls carry a token that an application's private key signs; webhooks
carry one that the account's signature secret signs.
https://developer.vonage.com/en/getting-started/concepts/authentication
"""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import Secret
from consumers.sdk.error_codes import ACCOUNT, CONTENT, LIMITED, NOBODY, SENDER, TRANSIENT, Meaning
from consumers.sdk.http_provider import basic_auth, bearer, json_object, text_or_none
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import LOOPBACK, Options
from consumers.sdk.provider_type import ProviderContext
from consumers.sdk.receipts import BadSignatureError, UnreadableReceiptError, check_signature_age
from schemas.events import ProviderResponse

BASE_URL = "https://api.nexmo.com"
ERRORS_PAGE = "https://developer.vonage.com/en/api-errors"
TOKEN_LIFE = timedelta(minutes=15)
TOKEN_USE = timedelta(minutes=10)  # a new one is made well before that

# What every API of Vonage may answer; the other codes are its products' own.
CODES: Mapping[str, Meaning] = MappingProxyType(
    {
        "unauthorized": ACCOUNT,
        "forbidden": ACCOUNT,
        "low-balance": ACCOUNT,
        "unprovisioned": ACCOUNT,
        "account-suspended": ACCOUNT,
        "jwt-expired": ACCOUNT,  # our clock is wrong
        "jwt-revoked": ACCOUNT,
        "invalid-api-key": ACCOUNT,
        "throttled": LIMITED,
        "rate-limit": LIMITED,
        "internal-error": TRANSIENT,
        # An answer that says which parameter is wrong.
        "invalid:to": NOBODY,
        "invalid:from": SENDER,
        "invalid:text": CONTENT,
        "invalid:ncco": CONTENT,
    }
)


@dataclass(slots=True, repr=False)
class Application:
    """Signs the tokens of an application. One is used for several calls, which Vonage allows:
    signing takes as long as all the rest of a call."""

    application_id: str
    key: RSAPrivateKey
    clock: Clock = utc_now
    _header: Mapping[str, str] = field(default_factory=dict)
    _until: datetime | None = None

    def headers(self) -> Mapping[str, str]:
        """The header of a call made now."""
        now = self.clock()
        if self._until is None or now >= self._until:
            self._header, self._until = bearer(self._token(now)), now + TOKEN_USE
        return self._header

    def _token(self, now: datetime) -> Secret:
        issued = int(now.timestamp())
        claims = {
            "application_id": self.application_id,
            "iat": issued,
            "exp": issued + int(TOKEN_LIFE.total_seconds()),
            "jti": str(uuid4()),
        }
        return Secret(jwt.encode(claims, self.key, algorithm="RS256"))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class VonageAccount:
    """Whose account is used.

    Args:
        headers: those that prove a call made now.
        callbacks: whether Vonage can reach us.
    """

    base_url: str
    headers: Callable[[], Mapping[str, str]]
    callbacks: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AccountTable:
    """The options of a Vonage table that speak of the account, asked for but not looked into.

    Args:
        user, password: an application's id and private key, or else the account's key and secret.
    """

    base_url: str
    application: bool
    user: Secret
    password: Secret

    @classmethod
    def read(cls, options: Options, *, application_only: bool) -> "AccountTable":
        """Ask for them.

        Args:
            application_only: the API takes no API key.

        Raises:
            SettingsError: one is wrong; a secret that is not set is told by `Options.done`.
        """
        options.others("signature_secret_env")
        base_url = options.url("base_url", BASE_URL)
        named = ("application_id_env", "VONAGE_APPLICATION_ID")
        application = (
            options.secret(*named) if application_only else options.optional_secret(*named)
        )
        if application is None:
            options.others("private_key_env")
            user = options.secret("api_key_env", "VONAGE_API_KEY")
            password = options.secret("api_secret_env", "VONAGE_API_SECRET")
        else:
            options.others("api_key_env", "api_secret_env")
            user, password = application, options.secret("private_key_env", "VONAGE_PRIVATE_KEY")
        return cls(
            base_url=base_url, application=application is not None, user=user, password=password
        )

    def account(self, setup: ProviderContext) -> VonageAccount:
        """The account, once `Options.done` has found everything set.

        Raises:
            SettingsError: what the variable holds is no private key.
        """
        here, there = urlsplit(setup.receipts_url).hostname, urlsplit(self.base_url).hostname
        return VonageAccount(
            base_url=self.base_url,
            headers=self._headers(setup),
            callbacks=here not in LOOPBACK or there in LOOPBACK,
        )

    def _headers(self, setup: ProviderContext) -> Callable[[], Mapping[str, str]]:
        if self.application:
            return Application(self.user.value, _private_key(setup.options, self.password)).headers
        header = MappingProxyType(basic_auth(self.user.value, self.password))
        return lambda: header


def read_signature_secret(options: Options) -> Secret:
    """What signs receipts; the adapter's options of the account are left to it.

    Raises:
        SettingsError: an option is wrong; a secret that is not set is told by `Options.done`.
    """
    options.others("base_url", "application_id_env", "private_key_env")
    options.others("api_key_env", "api_secret_env")
    return options.secret("signature_secret_env", "VONAGE_SIGNATURE_SECRET")


def words_of(answer: Answer) -> ProviderResponse:
    """What an answer says: an id of what was taken, a problem (RFC 9457) of what was not."""
    said = json_object(answer.text)
    return ProviderResponse(
        provider_message_id=text_or_none(said.get("message_uuid") or said.get("uuid")),
        code=problem_code(said) or str(answer.status),
        detail=text_or_none(said.get("detail") or said.get("title") or said.get("error_title")),
        raw=answer.text,
    )


def is_success(answer: Answer, response: ProviderResponse) -> bool:
    """Whether something was taken: the answer has the status of success, and tells no problem."""
    return 200 <= answer.status < 300 and response.code == str(answer.status)


def problem_code(said: Mapping[str, Any]) -> str | None:
    """The code in a problem: which parameter is wrong (`invalid:to`) where it says so, else what
    stands behind the `#` of its type, or its title in receipts."""
    if (parameter := _wrong_parameter(said.get("invalid_parameters"))) is not None:
        return f"invalid:{parameter}"
    kind = text_or_none(said.get("type")) or ""
    title = text_or_none(said.get("title")) or ""
    return urlsplit(kind).fragment or (title if title.isdecimal() else "") or None


def _wrong_parameter(wrong: object) -> str | None:
    """The first that the table knows, without what stands inside it: `to` of `to[0].number`."""
    listed = wrong if isinstance(wrong, list) else []
    names = [str(one.get("name")) for one in listed if isinstance(one, dict)]
    known = [re.split(r"[.\[]", name, maxsplit=1)[0] for name in names]
    return next((name for name in known if f"invalid:{name}" in CODES), None)


def verified(
    headers: Mapping[str, str], body: bytes, *, secret: Secret, clock: Clock
) -> Mapping[str, Any]:
    """What a webhook that Vonage signed says.

    The token covers the hash of the payload, and not the address: nothing in that is to be relied
    on. https://developer.vonage.com/en/getting-started/concepts/webhooks#decoding-signed-webhooks

    Args:
        headers: by lower-case name.

    Raises:
        BadSignatureError: it did not sign this, or too long ago.
        UnreadableReceiptError: it did, and it is no JSON object.
    """
    claims = _claims(headers.get("authorization", ""), secret)
    issued, expected = claims.get("iat"), claims.get("payload_hash")
    if not isinstance(issued, int | float) or not isinstance(expected, str):
        raise BadSignatureError("the token lacks the time or the payload's hash")
    check_signature_age(issued, now=clock())
    said = json_object(body)
    if not any([_same(expected, one) for one in (body, _compact(said))]):  # noqa: C419 - constant time
        raise BadSignatureError("the body is not the one that was signed")
    if not said:
        raise UnreadableReceiptError("no JSON object")
    return said


def _compact(said: Mapping[str, Any]) -> bytes:
    """The payload as Vonage's help has one hash it: what is read here, written without spaces."""
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _same(expected: str, payload: bytes) -> bool:
    found = hashlib.sha256(payload).hexdigest()
    return hmac.compare_digest(found.encode(), expected.lower().encode("utf-8", "replace"))


def _claims(authorization: str, secret: Secret) -> Mapping[str, Any]:
    """A bearer token's claims. Only HMAC-SHA256 is computed, whatever its head says."""
    scheme, _, token = authorization.partition(" ")
    parts = token.strip().split(".")
    if scheme.lower() != "bearer" or len(parts) != 3 or not secret.value:
        raise BadSignatureError("there is no signed token")
    head, payload, said = parts
    mac = hmac.new(secret.value.encode(), f"{head}.{payload}".encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(mac, _decoded(said)):
        raise BadSignatureError("the signature is not the provider's")
    return json_object(_decoded(payload))


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as error:
        raise BadSignatureError("the token is not one") from error


def digits(number: str) -> str:
    """A number as Vonage writes it, without a plus; a name stays as it is."""
    return number.removeprefix("+")


def e164(number: object) -> str:
    """One of Vonage's numbers as we write it."""
    text = text_or_none(number) or ""
    return f"+{text}" if text.isdecimal() else text


def _private_key(options: Options, secret: Secret) -> RSAPrivateKey:
    """The key in a variable, or in the file that it names.

    Raises:
        SettingsError: there is none.
    """
    text = secret.value
    try:
        pem = text if "-----BEGIN" in text else Path(text).read_text()
        key = load_pem_private_key(pem.replace("\\n", "\n").encode(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        problem = "must hold a private key (PEM), or the path of one"
        raise options.wrong("private_key_env", problem) from error
    if not isinstance(key, RSAPrivateKey):
        raise options.wrong("private_key_env", "must hold an RSA key")
    return key
