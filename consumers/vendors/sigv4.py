"""Signature Version 4, by which Amazon's services know who calls.

Adapters ask `signed` for the headers of each request, as they are only good for some minutes.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote, urlsplit

from pydantic import field_validator

from comms.platform.settings import Secret
from consumers.sdk.options import (
    CallOptions,
    HttpsUrl,
    SecretVariable,
    Text,
    secret_variable,
)

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """Who calls: an access key, and a session token where the key is a temporary one."""

    key_id: Secret
    key: Secret
    token: Secret | None


class AwsOptions(CallOptions):
    """The options of an AWS account, for each of its services.

    Attributes:
        access_key_id_env: the id of the access key.
        secret_access_key_env: the access key.
        session_token_env: the session token, if the access key is a temporary one.
        region: such as `eu-west-1`.
        base_url: the address of the API; None for the region's own.
    """

    access_key_id_env: SecretVariable = secret_variable("AWS_ACCESS_KEY_ID")
    secret_access_key_env: SecretVariable = secret_variable("AWS_SECRET_ACCESS_KEY")
    session_token_env: SecretVariable = secret_variable("AWS_SESSION_TOKEN")
    region: Text
    base_url: HttpsUrl | None = None

    @field_validator("region")
    @classmethod
    def _check_region(cls, value: str) -> str:
        if not _REGION.fullmatch(value):
            raise ValueError("must be a region's name, such as eu-west-1")
        return value

    def credentials(self) -> Credentials:
        """Return the credentials.

        Raises:
            MissingSecretError: one is not set.
        """
        return Credentials(
            key_id=self.access_key_id_env.secret(),
            key=self.secret_access_key_env.secret(),
            token=self.session_token_env.optional_secret(),
        )

    def url_of(self, host: str) -> str:
        """Return the address of a service, such as `sns`, in the region."""
        return self.base_url or f"https://{host}.{self.region}.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is called, as signatures name it."""

    name: str
    region: str


def signed(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    service: Service,
    credentials: Credentials,
    now: datetime,
) -> dict[str, str]:
    """The headers of a request, those that sign it among them.

    Args:
        url: without a query; headers: to be sent and signed, beside `Host`.
    """
    time = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "X-Amz-Date": time}
    if credentials.token is not None:
        sent["X-Amz-Security-Token"] = credentials.token.value
    parts = urlsplit(url)
    lines = {"host": parts.netloc, **{name.lower(): value for name, value in sent.items()}}
    names = ";".join(sorted(lines))
    request = "\n".join(
        (
            method,
            quote(parts.path or "/", safe="/-_.~"),
            "",  # no query
            *(f"{name}:{lines[name].strip()}" for name in sorted(lines)),
            "",
            names,
            sha256(body).hexdigest(),
        )
    )
    scope = f"{time[:8]}/{service.region}/{service.name}/aws4_request"
    text = "\n".join((_ALGORITHM, time, scope, sha256(request.encode()).hexdigest()))
    signature = _mac(_key(credentials.key, scope), text).hex()
    user = f"Credential={credentials.key_id.value}/{scope}"
    sent["Authorization"] = f"{_ALGORITHM} {user}, SignedHeaders={names}, Signature={signature}"
    return sent


def _key(secret: Secret, scope: str) -> bytes:
    """The key of one day, region and service."""
    key = f"AWS4{secret.value}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), sha256).digest()
