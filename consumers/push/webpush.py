"""Notifications to browsers by Web Push: RFC 8030, encrypted for one subscription.

The runner calls it like every provider. There is no one service: a message's subscription says
which is called, and since anybody may have put it there, only public addresses are reached
(`consumers.push.outward`), and no answer is taken for a word about our account.
"""

import hashlib
import re
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from pydantic import field_validator

from comms.platform.clock import Clock, utc_now
from consumers.push.devices import seconds_to_live, without
from consumers.push.encryption import (
    BadSubscriptionError,
    Vapid,
    encrypted,
    read_key,
    text_of,
)
from consumers.push.outward import is_public
from consumers.sdk.error_codes import (
    CONTENT,
    GONE,
    INVALID_RECIPIENT,
    LIMITED,
    Classifier,
    ErrorTable,
)
from consumers.sdk.http_provider import HttpProvider, Request, transport_of
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import CallOptions, HttpsUrl, SecretVariable, Text, secret_variable
from consumers.sdk.outcomes import Accepted, Outcome, Refused
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from schemas.events import ProviderResponse
from schemas.messages import PushMessage, WebPushSubscription
from schemas.payloads import payload_violations, webpush_payload
from schemas.vocabulary import Platform, Priority, Reason

LONGEST_LIFE = 2_419_200  # seconds, where a message says nothing: four weeks, what services keep
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")
_URGENCY = {Priority.HIGH: "high", Priority.NORMAL: "normal", Priority.BULK: "low"}

# Services differ in what they write; what they mean is the status.
CODES = ErrorTable(
    source="https://www.rfc-editor.org/rfc/rfc8030#section-8.4",
    codes={},
    statuses={
        # Not signed by whom the subscription was made for; other subscriptions are not stopped.
        401: INVALID_RECIPIENT,
        403: INVALID_RECIPIENT,
        402: INVALID_RECIPIENT,
        404: GONE,
        406: LIMITED,  # Windows' way of saying 429
        410: GONE,
        413: CONTENT,
    },
)


class WebPush:
    """Writes the requests of the API and reads its answers.

    Args:
        base_url: called in place of each endpoint's own service; for a gateway, and for tests.
    """

    def __init__(
        self,
        vapid: Vapid,
        *,
        classifier: Classifier,
        base_url: str | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._vapid, self._classifier, self._base_url = vapid, classifier, base_url
        self._clock = clock

    async def request(self, message: PushMessage, attempt: Attempt) -> Request | Outcome:
        subscription = message.subscription
        if subscription is None or message.platform not in (None, Platform.WEBPUSH):
            return _refused(Reason.INVALID_CONTENT, "it has no web push subscription")
        if (problem := next(payload_violations(message, Platform.WEBPUSH), None)) is not None:
            return _refused(Reason.INVALID_CONTENT, str(problem))
        endpoint = _parts(subscription)
        if endpoint is None:
            return _refused(Reason.INVALID_RECIPIENT, "the endpoint is no https:// address")
        try:
            body = encrypted(
                webpush_payload(message), p256dh=subscription.p256dh, auth=subscription.auth
            )
        except BadSubscriptionError as error:
            return _refused(Reason.INVALID_RECIPIENT, str(error))
        headers = self._headers(message, f"{endpoint.scheme}://{endpoint.netloc}")
        return Request(url=self._address(endpoint), headers=headers, body=body)

    def read(self, message: PushMessage, answer: Answer) -> Outcome:
        response = ProviderResponse(
            provider_message_id=answer.headers.get("Location"),
            code=str(answer.status),
            raw=answer.text or f"HTTP {answer.status}",
        )
        if message.subscription is not None:
            response = without(response, message.subscription.endpoint)
        if 200 <= answer.status < 300:
            return Accepted(response=response)
        after = answer.retry_after()
        return self._classifier.outcome(response, status=answer.status, retry_after=after)

    def probe(self) -> None:
        return None

    def _headers(self, message: PushMessage, origin: str) -> dict[str, str]:
        seconds = seconds_to_live(message, self._clock())
        headers = {
            "Authorization": self._vapid.header(origin),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(LONGEST_LIFE if seconds is None else seconds),
            "Urgency": _URGENCY[message.priority],
        }
        if message.collapse_key is not None:
            headers["Topic"] = _topic(message.collapse_key)
        return headers

    def _address(self, endpoint: SplitResult) -> str:
        if self._base_url is None:
            return endpoint.geturl()
        query = f"?{endpoint.query}" if endpoint.query else ""
        return f"{self._base_url}{endpoint.path}{query}"


def _refused(reason: Reason, why: str) -> Refused:
    return Refused(reason=reason, response=ProviderResponse(detail=why))


def _parts(subscription: WebPushSubscription) -> SplitResult | None:
    """The endpoint; None for what is not https, or hides a name before the host."""
    try:
        parts = urlsplit(subscription.endpoint)
        well = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts._replace(fragment="") if well and "@" not in parts.netloc else None


def _topic(key: str) -> str:
    """The key as 32 letters: itself, or what stands for it alone."""
    if _TOPIC.fullmatch(key):
        return key
    return text_of(hashlib.sha256(key.encode()).digest())[:32]


class WebPushOptions(CallOptions):
    """The key that subscriptions were made for.

    Attributes:
        vapid_private_key_env: the VAPID private key.
        subject: how a push service reaches our people: a `mailto:` or `https:` address.
        base_url: called in place of each subscription's own service.
    """

    vapid_private_key_env: SecretVariable = secret_variable("VAPID_PRIVATE_KEY")
    subject: Text
    base_url: HttpsUrl | None = None

    @field_validator("subject")
    @classmethod
    def _check_subject(cls, value: str) -> str:
        if not value.startswith(("mailto:", "https:")):
            raise ValueError("must begin with mailto: or https:")
        return value


def _build(context: ProviderContext[WebPushOptions]) -> HttpProvider[PushMessage]:
    options = context.options
    codec = WebPush(
        Vapid(_key(context), options.subject),
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
        base_url=options.base_url,
    )
    # An address of the settings may be anywhere; one of a message must be public.
    transport = transport_of(context, may_reach=is_public if options.base_url is None else None)
    return HttpProvider(context.name, codec, transport)


def _key(context: ProviderContext[WebPushOptions]) -> EllipticCurvePrivateKey:
    try:
        return read_key(context.options.vapid_private_key_env.secret().value)
    except ValueError as error:
        problem = f"what its variable holds is no P-256 key: {error}"
        raise context.wrong("vapid_private_key_env", problem) from error


WEBPUSH = ProviderType(
    options=WebPushOptions, build=_build, has_probe=False, platform=Platform.WEBPUSH
)
