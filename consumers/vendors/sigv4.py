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

from comms.platform.settings import Secret
from consumers.sdk.options import Options

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """Who calls: an access key, and a session token where the key is a temporary one."""

    key_id: Secret
    key: Secret
    token: Secret | None

    @classmethod
    def read(cls, options: Options) -> "Credentials":
        """Ask for them.

        Raises:
            SettingsError: an option is wrong; a secret that is not set is told by `Options.done`.
        """
        return cls(
            key_id=options.secret("access_key_id_env", "AWS_ACCESS_KEY_ID"),
            key=options.secret("secret_access_key_env", "AWS_SECRET_ACCESS_KEY"),
            token=options.optional_secret("session_token_env", "AWS_SESSION_TOKEN"),
        )


def region_of(options: Options) -> str:
    """The option `region`.

    Raises:
        SettingsError: it is missing, or no region's name.
    """
    region = options.text("region")
    if not _REGION.fullmatch(region):
        raise options.wrong("region", "must be a region's name, such as eu-west-1")
    return region


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
