"""Notifications by Apple's push service: one HTTP/2 request a device.

The runner calls it like every provider, by way of `consumers.push.devices`, over
`consumers.push.http2`. APNs sends no receipts. Our id for a device's notification travels as
`apns-id` and comes back with the answer; it is no idempotency key.
https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from comms.platform.clock import Clock, utc_now
from consumers.push.devices import DevicePush, seconds_to_live
from consumers.push.encryption import read_key
from consumers.push.http2 import Http2Transport
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    GONE,
    INVALID_RECIPIENT,
    LIMITED,
    REJECTED,
    TRANSIENT,
    Classifier,
    ErrorTable,
    Fault,
    Meaning,
)
from consumers.sdk.http_provider import Request, call_seconds, json_object, text_or_none
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import CallOptions, HttpsUrl, SecretVariable, Text, secret_variable
from consumers.sdk.outcomes import Accepted, Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from schemas.events import ProviderResponse
from schemas.ids import event_id
from schemas.messages import PushMessage
from schemas.payloads import apns_payload
from schemas.vocabulary import Platform, Priority

HOSTS = {
    "production": "https://api.push.apple.com",
    "sandbox": "https://api.sandbox.push.apple.com",
}
RENEWED = timedelta(minutes=50)  # a provider token ends after 60
YOUNGEST = timedelta(minutes=20)  # and must not be replaced sooner

_TROUBLE = Meaning(fault=Fault.TRANSIENT, after=15 * 60)  # what Apple asks for

CODES = ErrorTable(
    source="https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns",
    codes={
        # The device. A token of the other environment is as bad as none, so it is not suppressed.
        "BadDeviceToken": INVALID_RECIPIENT,
        "DeviceTokenNotForTopic": INVALID_RECIPIENT,
        "MissingDeviceToken": INVALID_RECIPIENT,
        "Unregistered": GONE,
        "ExpiredToken": GONE,
        # The content
        "PayloadTooLarge": CONTENT,
        "PayloadEmpty": CONTENT,
        "BadCollapseId": CONTENT,
        "BadExpirationDate": REJECTED,
        "BadMessageId": REJECTED,
        "BadPriority": REJECTED,
        "InvalidPushType": REJECTED,
        "DuplicateHeaders": REJECTED,
        "BadPath": REJECTED,
        "MethodNotAllowed": REJECTED,
        # The account: its key, and the topic, which is the provider's
        "BadTopic": ACCOUNT,
        "MissingTopic": ACCOUNT,
        "TopicDisallowed": ACCOUNT,
        "BadCertificate": ACCOUNT,
        "BadCertificateEnvironment": ACCOUNT,
        "ExpiredProviderToken": ACCOUNT,
        "Forbidden": ACCOUNT,
        "InvalidProviderToken": ACCOUNT,
        "MissingProviderToken": ACCOUNT,
        "UnrelatedKeyIdInToken": ACCOUNT,
        "BadEnvironmentKeyIdInToken": ACCOUNT,
        # The moment
        "TooManyRequests": LIMITED,
        "TooManyProviderTokenUpdates": Meaning(fault=Fault.RATE_LIMITED, after=20 * 60),
        "IdleTimeout": TRANSIENT,
        "InternalServerError": _TROUBLE,
        "ServiceUnavailable": _TROUBLE,
        "Shutdown": TRANSIENT,  # of one server; another connection leads to the next
    },
)


class ProviderToken:
    """The signed token of each call, made anew no sooner and no later than Apple allows.

    Args:
        key_id, team_id: as Apple's pages show them.
    """

    def __init__(
        self, key: EllipticCurvePrivateKey, *, key_id: str, team_id: str, clock: Clock = utc_now
    ) -> None:
        self._key, self._key_id, self._team_id = key, key_id, team_id
        self._clock = clock
        self._made: datetime | None = None
        self._header: Mapping[str, str] = {}

    def header(self) -> Mapping[str, str]:
        """The header that carries it."""
        now = self._clock()
        if self._made is None or now - self._made >= RENEWED:
            claims = {"iss": self._team_id, "iat": int(now.timestamp())}
            named = {"kid": self._key_id}
            token = jwt.encode(claims, self._key, algorithm="ES256", headers=named)
            self._made, self._header = now, {"authorization": f"bearer {token}"}
        return self._header

    def refused(self) -> None:
        """Apple takes it for too old: another for the next call, unless it is too young for one."""
        if self._made is not None and self._clock() - self._made >= YOUNGEST:
            self._made = None


class Apns:
    """The service.

    Args:
        topic: the app's bundle id.
    """

    platform = Platform.APNS
    batch = 1

    def __init__(
        self,
        base_url: str,
        token: ProviderToken,
        *,
        topic: str,
        classifier: Classifier,
        clock: Clock = utc_now,
    ) -> None:
        self._base_url, self._token, self._topic = base_url, token, topic
        self._classifier, self._clock = classifier, clock

    async def credentials(self) -> Mapping[str, str] | Outcome:
        return self._token.header()

    def request(self, message: PushMessage, tokens: Sequence[str], attempt: Attempt) -> Request:
        (token,) = tokens
        headers = {
            "apns-topic": self._topic,
            "apns-push-type": "alert",
            # 10 shows it at once, 5 when the device finds it convenient
            "apns-priority": "5" if message.priority is Priority.BULK else "10",
            "apns-id": str(event_id(message.id, "apns", attempt.idempotency_key, token)),
        }
        if message.collapse_key is not None:
            headers["apns-collapse-id"] = message.collapse_key
        now = self._clock()
        if (seconds := seconds_to_live(message, now)) is not None:
            ends = int(now.timestamp()) + seconds
            headers["apns-expiration"] = str(ends) if seconds else "0"
        url = f"{self._base_url}/3/device/{quote(token, safe='')}"
        return Request(url=url, headers=headers, body=apns_payload(message))

    def read(self, tokens: Sequence[str], answer: Answer) -> Sequence[Outcome]:
        ours = answer.headers.get("Apns-Id")
        if 200 <= answer.status < 300:
            raw = answer.text or f"HTTP {answer.status}"
            return [Accepted(response=ProviderResponse(provider_message_id=ours, raw=raw))]
        said = json_object(answer.text)
        if said.get("reason") == "ExpiredProviderToken":
            self._token.refused()
        response = ProviderResponse(
            provider_message_id=ours,
            code=text_or_none(said.get("reason")) or str(answer.status),
            detail=_since(said.get("timestamp")),
            raw=answer.text,
        )
        after = answer.retry_after()
        return [self._classifier.outcome(response, status=answer.status, retry_after=after)]

    def probe(self) -> None:
        return None


def _since(timestamp: object) -> str | None:
    """When a device was known to be gone: one that registered later is another."""
    if not isinstance(timestamp, int) or not 0 < timestamp < 10**14:
        return None
    return f"gone since {datetime.fromtimestamp(timestamp / 1000, UTC).isoformat()}"


class ApnsOptions(CallOptions):
    """The app and the key that signs for it.

    Attributes:
        key_env: the key (.p8), or the path of a file with it.
        key_id: the key's id.
        team_id: the id of the team that owns the app.
        topic: the app's bundle id.
        environment: where the app's tokens come from.
        base_url: the address of the service; None for that of the environment.
    """

    key_env: SecretVariable = secret_variable("APNS_KEY")
    key_id: Text
    team_id: Text
    topic: Text
    environment: Literal["production", "sandbox"] = "production"
    base_url: HttpsUrl | None = None


def _build(context: ProviderContext[ApnsOptions]) -> DevicePush:
    options, seconds = context.options, call_seconds(context)
    base_url = options.base_url or HOSTS[options.environment]
    service = Apns(
        base_url,
        ProviderToken(_key(context), key_id=options.key_id, team_id=options.team_id),
        topic=options.topic,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    transport = Http2Transport(base_url, timeout_seconds=seconds)
    return DevicePush(context.name, service, transport, seconds=seconds)


def _key(context: ProviderContext[ApnsOptions]) -> EllipticCurvePrivateKey:
    """Read the key that the variable holds, or the file that it names."""
    text = context.options.key_env.secret().value
    try:
        return read_key(text if "BEGIN" in text else Path(text).read_text("utf-8"))
    except (OSError, ValueError) as error:
        problem = "what its variable holds is no .p8 key, and names no file with one"
        raise context.wrong("key_env", problem) from error


APNS = ProviderType(options=ApnsOptions, build=_build, has_probe=False, platform=Platform.APNS)
