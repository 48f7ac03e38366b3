"""Notifications by Firebase Cloud Messaging, HTTP v1: one request a device, as v1 has no batches.

The runner calls it like every provider, by way of `consumers.push.devices`. FCM sends no receipts
and has no idempotency key. What it refuses is an `FcmError` inside Google's own kind of error.
https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from comms.platform.clock import Clock, utc_now
from consumers.push.devices import DevicePush, seconds_to_live
from consumers.push.google import AccessTokens, BadKeyError, ServiceAccount
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    GONE,
    INVALID_RECIPIENT,
    REJECTED,
    Classifier,
    ErrorTable,
    Fault,
    Meaning,
)
from consumers.sdk.http_provider import (
    Request,
    call_seconds,
    json_object,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import (
    CallOptions,
    HttpsUrl,
    SecretVariable,
    Text,
    check_url,
    secret_variable,
)
from consumers.sdk.outcomes import Accepted, Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_and_test
from schemas.events import ProviderResponse
from schemas.messages import PushMessage
from schemas.vocabulary import Mode, Platform, Priority

BASE_URL = "https://fcm.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
PROBE_TOPIC = "comms-probe"  # nobody need have subscribed to it: nothing is sent
_BAD_TOKEN = "INVALID_ARGUMENT message.token"  # noqa: S105 - a code of ours for one of two errors
_FCM_ERROR = "google.firebase.fcm.v1.FcmError"

# Not sooner than after 10 s, and after 60 s where a quota is exceeded and no time is named:
# https://firebase.google.com/docs/cloud-messaging/scale-fcm
_TROUBLE = Meaning(fault=Fault.TRANSIENT, after=10)
_QUOTA = Meaning(fault=Fault.RATE_LIMITED, after=60)

CODES = ErrorTable(
    source="https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode",
    codes={
        # FCM's own
        "INVALID_ARGUMENT": CONTENT,
        _BAD_TOKEN: INVALID_RECIPIENT,
        "UNREGISTERED": GONE,
        "SENDER_ID_MISMATCH": INVALID_RECIPIENT,  # another project's token; it is not suppressed
        "QUOTA_EXCEEDED": _QUOTA,
        "UNAVAILABLE": _TROUBLE,
        "INTERNAL": _TROUBLE,
        # The project's APNs or web push key is wrong: tokens of other platforms are not stopped.
        "THIRD_PARTY_AUTH_ERROR": REJECTED,
        # Google's, where FCM adds nothing: https://cloud.google.com/apis/design/errors
        "UNAUTHENTICATED": ACCOUNT,
        "PERMISSION_DENIED": ACCOUNT,
        "NOT_FOUND": INVALID_RECIPIENT,
        "RESOURCE_EXHAUSTED": _QUOTA,
    },
)


class Fcm:
    """The service.

    Args:
        url: of the project's `messages:send`.
    """

    platform = Platform.FCM
    batch = 1

    def __init__(
        self,
        url: str,
        tokens: AccessTokens,
        *,
        classifier: Classifier,
        clock: Clock = utc_now,
    ) -> None:
        self._url, self._tokens, self._classifier = url, tokens, classifier
        self._clock = clock

    async def credentials(self) -> Mapping[str, str] | Outcome:
        return await self._tokens.header()

    def request(self, message: PushMessage, tokens: Sequence[str], attempt: Attempt) -> Request:
        (token,) = tokens
        written = _written(message, self._clock())
        value: dict[str, Any] = {"message": {"token": token, **written}}
        if message.mode is Mode.TEST:
            value["validateOnly"] = True
        return json_request(self._url, value, {})

    def read(self, tokens: Sequence[str], answer: Answer) -> Sequence[Outcome]:
        said = json_object(answer.text)
        if 200 <= answer.status < 300:
            name = text_or_none(said.get("name"))
            return [Accepted(response=ProviderResponse(provider_message_id=name, raw=answer.text))]
        if answer.status == 401:
            self._tokens.forget()
        response = _provider_response(answer, said)
        after = answer.retry_after()
        return [self._classifier.outcome(response, status=answer.status, retry_after=after)]

    def probe(self) -> Request:
        notification = {"title": "probe", "body": "probe"}
        message = {"topic": PROBE_TOPIC, "notification": notification}
        return json_request(self._url, {"validateOnly": True, "message": message}, {})


def _written(message: PushMessage, now: datetime) -> dict[str, Any]:
    """A message as FCM has it, but for its token: what each platform calls the same things.

    Names are those of Google's own machine-readable description of the API.
    """
    urgent = message.priority is Priority.HIGH
    android: dict[str, Any] = {"priority": "HIGH" if urgent else "NORMAL"}
    # 10 shows it at once, 5 when the device finds it convenient
    apns: dict[str, str] = {"apns-priority": "5" if message.priority is Priority.BULK else "10"}
    aps: dict[str, Any] = {"sound": "default"}
    if (seconds := seconds_to_live(message, now)) is not None:
        android["ttl"] = f"{seconds}s"
        apns["apns-expiration"] = str(int(now.timestamp()) + seconds) if seconds else "0"
    if message.collapse_key is not None:
        android["collapseKey"] = message.collapse_key
        apns["apns-collapse-id"] = message.collapse_key
    if message.badge is not None:
        android["notification"] = {"notificationCount": message.badge}
        aps["badge"] = message.badge
    return {
        "notification": {"title": message.title, "body": message.body},
        "data": dict(message.data),
        "android": android,
        "apns": {"headers": apns, "payload": {"aps": aps}},
    }


def _provider_response(answer: Answer, said: Mapping[str, Any]) -> ProviderResponse:
    error = said.get("error")
    error = error if isinstance(error, dict) else {}
    return ProviderResponse(
        code=_code(error) or str(answer.status),
        detail=text_or_none(error.get("message")),
        raw=answer.text,
    )


def _code(error: Mapping[str, Any]) -> str | None:
    """FCM's code, else Google's. INVALID_ARGUMENT says two things: about the token, or the rest;
    the fields tell them apart, and where there are none, FCM's own sentence."""
    details = _objects(error.get("details"))
    own = [d.get("errorCode") for d in details if str(d.get("@type")).endswith(_FCM_ERROR)]
    code = text_or_none(own[0] if own else error.get("status"))
    if code != "INVALID_ARGUMENT":
        return code
    fields = [v.get("field") for d in details for v in _objects(d.get("fieldViolations"))]
    told = "registration token" in str(error.get("message")) and not fields
    return _BAD_TOKEN if told or fields == ["message.token"] else code


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects in a list; none where it is none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


class FcmOptions(CallOptions):
    """The Firebase project.

    Attributes:
        service_account_env: the key file of a service account, or the path of one.
        project_id: the project; that of the service account unless the table says otherwise.
        token_uri: where access tokens are issued; as in the key file unless the table says
            otherwise.
        base_url: the address of the API.
    """

    service_account_env: SecretVariable = secret_variable("GOOGLE_APPLICATION_CREDENTIALS")
    project_id: Text | None = None
    token_uri: HttpsUrl | None = None
    base_url: HttpsUrl = BASE_URL


def _build(context: ProviderContext[FcmOptions]) -> DevicePush:
    options, transport = context.options, transport_of(context)
    try:
        account = ServiceAccount.read(options.service_account_env.secret())
        token_uri = options.token_uri or check_url(account.token_uri)
    except BadKeyError as error:
        raise context.wrong("service_account_env", f"what its variable holds {error}") from error
    except ValueError as error:
        raise context.wrong("token_uri", str(error)) from error
    project = options.project_id or account.project_id
    if project is None:
        raise context.wrong("project_id", "missing, and the service account names none")
    service = Fcm(
        f"{options.base_url}/v1/projects/{project}/messages:send",
        AccessTokens(account, transport, scope=SCOPE, token_uri=token_uri),
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    return DevicePush(context.name, service, transport, seconds=call_seconds(context))


FCM = ProviderType(options=FcmOptions, build=_build, platform=Platform.FCM, modes=live_and_test)
