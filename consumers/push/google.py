"""A Google service account: the key file, and the access tokens that are had for it.

The FCM adapter asks here for the header of each call. A token is had by a signed statement
(RFC 7523) and kept until shortly before it expires; calls that need one at the same time wait for
the same exchange. https://developers.google.com/identity/protocols/oauth2/service-account
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from comms.platform.clock import Clock, utc_now
from comms.platform.settings import Secret
from consumers.sdk.http_provider import bearer, form_request, json_object
from consumers.sdk.http_transport import Answer, HttpTransport
from consumers.sdk.outcomes import AccountError, Outcome, TryLater
from schemas.events import ProviderResponse
from schemas.vocabulary import Reason

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME = timedelta(hours=1)  # of a statement; the longest that Google takes
EARLY = timedelta(minutes=5)  # before its end a token is not used any more


class BadKeyError(ValueError):
    """What was given is no service account's key; the text says what is wrong, and quotes none."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ServiceAccount:
    """What stands in a key file, as far as it is used."""

    email: str
    project_id: str | None
    key_id: str | None
    token_uri: str
    key: RSAPrivateKey

    @classmethod
    def read(cls, secret: Secret) -> "ServiceAccount":
        """The account in a key file's content, or in the file whose path is given.

        Raises:
            BadKeyError: there is none.
        """
        fields = _fields(secret.value)
        pem, email = fields.get("private_key"), fields.get("client_email")
        if not isinstance(pem, str) or not isinstance(email, str):
            raise BadKeyError("has no private_key and client_email of a service account")
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadKeyError("its private_key cannot be read") from error
        if not isinstance(key, RSAPrivateKey):
            raise BadKeyError("its private_key is no RSA key")
        return cls(
            email=email,
            project_id=fields.get("project_id"),
            key_id=fields.get("private_key_id"),
            token_uri=fields.get("token_uri") or TOKEN_URI,
            key=key,
        )

    def statement(self, scope: str, now: datetime, *, audience: str) -> str:
        """The signed statement that is exchanged for a token."""
        claims = {
            "iss": self.email,
            "scope": scope,
            "aud": audience,
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
        }
        headers = {"kid": self.key_id} if self.key_id else None
        return jwt.encode(claims, self.key, algorithm="RS256", headers=headers)


class AccessTokens:
    """The access token of an account, had when it is needed.

    Args:
        token_uri: where, in place of what the key file says.
    """

    def __init__(
        self,
        account: ServiceAccount,
        transport: HttpTransport,
        *,
        scope: str,
        token_uri: str,
        clock: Clock = utc_now,
    ) -> None:
        self._account, self._transport, self._scope = account, transport, scope
        self._token_uri, self._clock = token_uri, clock
        self._exchange = asyncio.Lock()
        self._header: Mapping[str, str] = {}
        self._until: datetime | None = None

    async def header(self) -> Mapping[str, str] | Outcome:
        """The header that carries the token; an outcome where Google gives none.

        Raises:
            TransportError: it does not answer.
        """
        async with self._exchange:
            if self._until is not None and self._clock() < self._until:
                return self._header
            now = self._clock()
            statement = self._account.statement(self._scope, now, audience=self._token_uri)
            fields = {"grant_type": GRANT, "assertion": statement}
            request = form_request(self._token_uri, fields, {})
            answer = await self._transport.call(
                request.method, request.url, body=request.body, headers=request.headers
            )
            return self._taken(answer, now)

    def forget(self) -> None:
        """Have another one for the next call: this one was refused."""
        self._until = None

    def _taken(self, answer: Answer, now: datetime) -> Mapping[str, str] | Outcome:
        said = json_object(answer.text)
        token, lifetime = said.get("access_token"), said.get("expires_in", 0)
        if answer.status == 200 and isinstance(token, str) and isinstance(lifetime, int):
            self._header = bearer(Secret(token))
            self._until = now + timedelta(seconds=min(max(lifetime, 0), 3600)) - EARLY
            return self._header
        return _refusal(answer, said)


def _refusal(answer: Answer, said: Mapping[str, Any]) -> Outcome:
    """Why there is no token. What is not an error's own words is not repeated: it could be one."""
    response = ProviderResponse(
        code=str(said.get("error") or answer.status),
        detail=f"no access token: {said.get('error_description') or answer.status}",
    )
    if answer.status == 429:
        return TryLater(reason=Reason.RATE_LIMITED, after=answer.retry_after(), response=response)
    if 400 <= answer.status < 500 and answer.status != 408:
        return AccountError(response=response)
    return TryLater(reason=Reason.PROVIDER_ERROR, after=answer.retry_after(), response=response)


def _fields(given: str) -> Mapping[str, Any]:
    if not given.lstrip().startswith("{"):
        try:
            given = Path(given).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BadKeyError("names no file that can be read, and is no JSON") from error
    try:
        value = json.loads(given)
    except ValueError as error:
        raise BadKeyError("is no JSON") from error
    return value if isinstance(value, dict) else {}
