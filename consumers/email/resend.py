"""E-mail by Resend: https://resend.com/docs/api-reference/emails/send-email

The runner calls it like every provider. It is the one e-mail API with an idempotency key: a call
whose answer was lost is repeated under the same key, and Resend (for 24 hours) answers what it
answered then. Its events name the mail and not whom among its recipients they are about, so those
of a mail with copies are not taken for anything.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from comms.platform.clock import Clock
from comms.platform.settings import Secret
from consumers.email.parts import (
    MARK,
    EmailApiOptions,
    encoded,
    mark_of,
    ours,
    parts_of,
    written,
)
from consumers.email.simulators import unless_simulated
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    GONE,
    INVALID_RECIPIENT,
    LIMITED,
    REJECTED,
    SENDER,
    TRANSIENT,
    UNCLEAR,
    Classifier,
    ErrorTable,
    Fault,
    Meaning,
    reason_of_failure,
)
from consumers.sdk.http_provider import (
    HttpProvider,
    Request,
    bearer,
    json_object,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import HttpsUrl, SecretVariable, secret_variable
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_and_test
from consumers.sdk.receipts import Receipt, UnmatchedReceipt, UnreadableReceiptError, moment
from consumers.vendors import svix
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage
from schemas.vocabulary import Reason, SuppressionReason

BASE_URL = "https://api.resend.com"

# Names of errors, and of events with what they say. `validation_error` means several things: its
# status is written behind it, or the field that its message names.
CODES = ErrorTable(
    source="https://resend.com/docs/api-reference/errors",
    codes={
        # The recipient and the content
        "validation_error to": INVALID_RECIPIENT,
        "invalid_to_address": REJECTED,  # a team that tries things out may write to itself only
        "validation_error 400": CONTENT,
        "validation_error 422": CONTENT,
        "missing_required_field": CONTENT,
        "invalid_parameter": CONTENT,
        "invalid_attachment": CONTENT,
        "security_error": REJECTED,
        # The sender
        "validation_error 403": SENDER,  # its domain is not verified
        "validation_error from": SENDER,
        "invalid_from_address": SENDER,
        # The account
        "missing_api_key": ACCOUNT,
        "restricted_api_key": ACCOUNT,
        "invalid_api_key": ACCOUNT,
        "invalid_access": ACCOUNT,
        "invalid_region": ACCOUNT,
        "not_found": ACCOUNT,  # of an address that is not Resend's
        "method_not_allowed": ACCOUNT,
        "daily_quota_exceeded": ACCOUNT,
        "monthly_quota_exceeded": ACCOUNT,
        # The moment
        "rate_limit_exceeded": LIMITED,
        "application_error": TRANSIENT,
        "internal_server_error": TRANSIENT,
        "concurrent_idempotent_requests": TRANSIENT,  # the call before is still under way
        "invalid_idempotent_request": UNCLEAR,  # it was made, with other settings than now
        # Of receipts: https://resend.com/docs/webhooks/emails/bounced
        "bounced Permanent": GONE,
        "bounced Transient": TRANSIENT,
        "bounced Undetermined": TRANSIENT,
        "bounced": REJECTED,
        "failed": REJECTED,
        "suppressed": Meaning(  # it bounced or complained before
            fault=Fault.PERMANENT,
            reason=Reason.SUPPRESSED,
            suppress=SuppressionReason.HARD_BOUNCE,
        ),
    },
)

_EXAMPLE = "delivered@resend.dev"
_FIELD = re.compile(r"[Ii]nvalid [`'\"](to|from)[`'\"]")  # "Invalid `to` field. …"


class Resend:
    """Writes the requests of the API and reads its answers.

    Args:
        sender: the From of messages that name none.
    """

    def __init__(self, *, base_url: str, key: Secret, sender: str, classifier: Classifier) -> None:
        self._base_url, self._sender, self._classifier = base_url, sender, classifier
        self._headers = bearer(key)

    async def request(self, message: EmailMessage, attempt: Attempt) -> Request | Outcome:
        if (refused := unless_simulated(message, _is_simulated, example=_EXAMPLE)) is not None:
            return refused
        return await written(message, lambda: self._write(message, attempt))

    def read(self, message: EmailMessage, answer: Answer) -> Outcome:
        said = json_object(answer.text)
        response = _provider_response(said, answer)
        return self._classifier.answered(response, answer, own_sender=message.sender is not None)

    def probe(self) -> Request:
        return Request(method="GET", url=f"{self._base_url}/domains", headers=self._headers)

    def _write(self, message: EmailMessage, attempt: Attempt) -> Request:
        parts = parts_of(message, default_from=self._sender)
        fields = {"text/plain": "text", "text/html": "html"}
        value: dict[str, object] = {
            "from": str(parts.sender),
            "to": [str(parts.to)],
            "subject": message.subject,
            **{fields[kind]: text for kind, text in parts.bodies},
            "tags": [{"name": MARK, "value": mark_of(message)}],
        }
        if parts.cc:
            value["cc"] = [str(one) for one in parts.cc]
        if parts.bcc:
            value["bcc"] = [str(one) for one in parts.bcc]
        if parts.reply_to is not None:
            value["reply_to"] = str(parts.reply_to)
        if parts.headers:
            value["headers"] = dict(parts.headers)
        if message.attachments:
            value["attachments"] = [
                {
                    "filename": one.filename,
                    "content": encoded(one),
                    "content_type": one.content_type,
                    **({"content_id": one.content_id} if one.content_id else {}),
                }
                for one in message.attachments
            ]
        headers = {**self._headers, "Idempotency-Key": attempt.idempotency_key}
        return json_request(f"{self._base_url}/emails", value, headers)


class ResendReceipts:
    """Reads events, which are JSON signed by Svix, one a request."""

    def __init__(self, secret: Secret, *, classifier: Classifier, clock: Clock) -> None:
        self._secret, self._classifier, self._clock = secret, classifier, clock

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Receipt]:
        del url  # nothing of it is signed
        now = self._clock()
        svix.verify(headers, body, secret=self._secret, now=now)
        event = json_object(body)
        data = event.get("data")
        if not isinstance(data, dict) or not isinstance(event.get("type"), str):
            raise UnreadableReceiptError("no event")
        said = self._unplaced(event, data, body.decode("utf-8", "replace"), now)
        return ours(said, mark=_mark(data.get("tags")), recipient=None) if said else []

    def _unplaced(
        self, event: Mapping[str, object], data: Mapping[str, object], raw: str, now: datetime
    ) -> UnmatchedReceipt | None:
        kind = str(event["type"]).removeprefix("email.")
        if kind not in ("delivered", "complained", "bounced", "failed", "suppressed"):
            return None  # on its way, or looked at
        code, detail = _why(kind, data)
        taken = kind in ("delivered", "complained")  # who complains has it
        meaning = None if taken else self._classifier.of_receipt(code)
        complained = SuppressionReason.COMPLAINT if kind == "complained" else None
        return UnmatchedReceipt(
            delivered=taken,
            occurred_at=moment(event.get("created_at"), otherwise=now),
            reason=reason_of_failure(meaning),
            suppress=meaning.suppress if meaning else complained,
            response=ProviderResponse(
                provider_message_id=text_or_none(data.get("email_id")),
                code=code,
                detail=detail,
                raw=raw,
            ),
        )


def _why(kind: str, data: Mapping[str, object]) -> tuple[str, str]:
    """The code of an event, and what it says: a bounce has a type, a failure a reason."""
    told = data.get({"bounced": "bounce"}.get(kind, kind))
    about = told if isinstance(told, dict) else {}
    code = f"{kind} {about['type']}" if kind == "bounced" and about.get("type") else kind
    return code, str(about.get("message") or about.get("reason") or kind)


def _mark(tags: object) -> object:
    """Our mark among the tags, which events write as an object and requests as a list."""
    if isinstance(tags, dict):
        return tags.get(MARK)
    named = [one for one in tags or [] if isinstance(one, dict)] if isinstance(tags, list) else []
    return next((one.get("value") for one in named if one.get("name") == MARK), None)


def _provider_response(said: Mapping[str, object], answer: Answer) -> ProviderResponse:
    detail = text_or_none(said.get("message"))
    return ProviderResponse(
        provider_message_id=text_or_none(said.get("id")),
        code=_code(text_or_none(said.get("name")), detail or "", answer.status),
        detail=detail,
        raw=answer.text,
    )


def _code(name: str | None, detail: str, status: int) -> str:
    if name != "validation_error":
        return name or str(status)
    field = _FIELD.search(detail)
    return f"{name} {field[1] if field else status}"


def _only_sends(answer: Answer) -> bool:
    """A key that may do nothing but send is known, and refused a look at the domains."""
    return json_object(answer.text).get("name") == "restricted_api_key"


def _is_simulated(address: str) -> bool:
    """https://resend.com/docs/dashboard/emails/send-test-emails"""
    return address.endswith("@resend.dev")


class ResendOptions(EmailApiOptions):
    """The account.

    Attributes:
        api_key_env: the API key.
        webhook_secret_env: the secret that signs webhooks.
        base_url: the address of the API.
    """

    api_key_env: SecretVariable = secret_variable("RESEND_API_KEY")
    webhook_secret_env: SecretVariable = secret_variable("RESEND_WEBHOOK_SECRET")
    base_url: HttpsUrl = BASE_URL


def _build(context: ProviderContext[ResendOptions]) -> HttpProvider[EmailMessage]:
    options = context.options
    codec = Resend(
        base_url=options.base_url,
        key=options.api_key_env.secret(),
        sender=options.sender,
        classifier=Classifier(CODES, channel=context.channel, provider=context.name),
    )
    return HttpProvider(context.name, codec, transport_of(context), probe_ok=_only_sends)


def _receipts(context: ProviderContext[ResendOptions], clock: Clock) -> ResendReceipts:
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    secret = svix.signing_secret(context, "webhook_secret_env", context.options.webhook_secret_env)
    return ResendReceipts(secret, classifier=classifier, clock=clock)


RESEND = ProviderType(
    options=ResendOptions,
    build=_build,
    receipts=_receipts,
    has_idempotency_key=True,
    modes=live_and_test,
)
