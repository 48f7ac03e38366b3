"""Notifications by Expo's push service, which passes them on to Google and Apple.

The runner calls it like every provider, by way of `consumers.push.devices`: one request for up to a
hundred devices, and a ticket for each of them in a 200. A ticket says that Expo took it; what came
of it stands in receipts that Expo keeps for a day. `consumers.receipts.poller` asks for them, and
`consumers.push.expo_receipts` reads them.
https://docs.expo.dev/push-notifications/sending-notifications/
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from comms.platform.clock import Clock, utc_now
from consumers.push.devices import Calls, DevicePush, masked, seconds_to_live
from consumers.push.expo_receipts import POLL_SCHEDULE, Reader, tickets_of
from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    GONE,
    LIMITED,
    REJECTED,
    TRANSIENT,
    Classifier,
    ErrorTable,
)
from consumers.sdk.http_provider import (
    Request,
    bearer,
    call_seconds,
    json_object,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer, TransportError
from consumers.sdk.options import CallOptions, HttpsUrl, SecretVariable, secret_variable
from consumers.sdk.outcomes import Accepted, Ambiguous, Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sdk.receipt_polling import ReceiptPollError, ReceiptQuery
from consumers.sdk.receipts import ReceiptEvent
from schemas.events import ProviderResponse
from schemas.messages import PushMessage
from schemas.payloads import expo_notification
from schemas.vocabulary import Platform, Priority

BASE_URL = "https://exp.host"
MOST_RECEIPTS = 1000  # in a request
ANSWER_LIMIT = 1024 * 1024  # bytes, for so many
UNKNOWN_RECEIPT_ID = "00000000-0000-0000-0000-000000000000"

_PRIORITY = {Priority.HIGH: "high", Priority.NORMAL: "default", Priority.BULK: "normal"}

CODES = ErrorTable(
    source="https://docs.expo.dev/push-notifications/sending-notifications/#errors",
    codes={
        # Of a ticket or a receipt
        "DeviceNotRegistered": GONE,
        "MessageTooBig": CONTENT,
        "MessageRateExceeded": LIMITED,
        # The project's keys at Google or Apple: devices of the other platform are not stopped.
        "MismatchSenderId": REJECTED,
        "InvalidCredentials": REJECTED,
        # Not on that page: general knowledge of its clients
        "DeveloperError": REJECTED,
        "ExpoError": TRANSIENT,
        "ProviderError": TRANSIENT,
        # Of a whole request
        "TOO_MANY_REQUESTS": LIMITED,
        "UNAUTHORIZED": ACCOUNT,
        "PUSH_TOO_MANY_EXPERIENCE_IDS": REJECTED,  # the message's tokens are of two projects
        "PUSH_TOO_MANY_NOTIFICATIONS": REJECTED,
        "PUSH_TOO_MANY_RECEIPTS": REJECTED,
    },
)


class Expo:
    """The service.

    Args:
        headers: the access token's, where the project asks for one.
    """

    platform = Platform.EXPO
    batch = 100

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        classifier: Classifier,
        clock: Clock = utc_now,
    ) -> None:
        self._url, self._headers = f"{base_url}/--/api/v2/push", headers
        self._classifier, self._clock = classifier, clock

    async def credentials(self) -> Mapping[str, str] | Outcome:
        return self._headers

    def request(self, message: PushMessage, tokens: Sequence[str], attempt: Attempt) -> Request:
        value = {
            **expo_notification(message),
            "to": list(tokens),
            "priority": _PRIORITY[message.priority],
        }
        if (seconds := seconds_to_live(message, self._clock())) is not None:
            value["ttl"] = seconds
        return json_request(f"{self._url}/send", [value], {"Accept": "application/json"})

    def read(self, tokens: Sequence[str], answer: Answer) -> Sequence[Outcome]:
        text = answer.text
        for token in tokens:  # an error may quote any of them
            text = text.replace(token, masked(token))
        said = json_object(text)
        if not 200 <= answer.status < 300 or said.get("errors"):
            return [self._of_all(answer, said, text)] * len(tokens)
        tickets = said.get("data")
        tickets = tickets if isinstance(tickets, list) else [tickets]
        if len(tickets) != len(tokens) or not all(isinstance(one, dict) for one in tickets):
            response = ProviderResponse(detail="not a ticket for each device", raw=text)
            return [Ambiguous(response=response)] * len(tokens)
        return [self._of_one(ticket) for ticket in tickets]

    def probe(self) -> Request:
        """Asks for a receipt that nobody has."""
        return json_request(f"{self._url}/getReceipts", {"ids": [UNKNOWN_RECEIPT_ID]}, {})

    def receipts_request(self, tickets: Sequence[str]) -> Request:
        """Asks for the receipts of these, with the credentials."""
        headers = {"Accept": "application/json", **self._headers}
        return json_request(f"{self._url}/getReceipts", {"ids": list(tickets)}, headers)

    def _of_one(self, ticket: Mapping[str, Any]) -> Outcome:
        details = ticket.get("details")
        error = details.get("error") if isinstance(details, dict) else None
        response = ProviderResponse(
            provider_message_id=text_or_none(ticket.get("id")),
            code=text_or_none(error),
            detail=text_or_none(ticket.get("message")),
            raw=json.dumps(ticket, ensure_ascii=False, separators=(",", ":")),
        )
        if ticket.get("status") == "ok":
            return Accepted(response=response)
        return self._classifier.outcome(response, status=400)  # what is wrong with it, inside a 200

    def _of_all(self, answer: Answer, said: Mapping[str, Any], text: str) -> Outcome:
        code, detail = _error_of(said)
        response = ProviderResponse(code=code or str(answer.status), detail=detail, raw=text)
        status = answer.status if answer.status >= 300 else 400
        return self._classifier.outcome(response, status=status, retry_after=answer.retry_after())


class ExpoPush(DevicePush):
    """The provider: what is common to device pushes, and that it can be asked for receipts."""

    poll_schedule = POLL_SCHEDULE

    def __init__(
        self, name: str, service: Expo, transport: Calls, *, reader: Reader, seconds: float
    ) -> None:
        super().__init__(name, service, transport, seconds=seconds)
        self._expo, self._reader = service, reader

    async def fetch_receipts(self, queries: Sequence[ReceiptQuery]) -> Sequence[ReceiptEvent]:
        tickets = [ticket for query in queries for ticket in tickets_of(query)]
        receipts = dict[str, Mapping[str, Any]]()
        for start in range(0, len(tickets), MOST_RECEIPTS):
            receipts |= await self._receipts(tickets[start : start + MOST_RECEIPTS])
        events = [self._reader.word(query, receipts) for query in queries]
        return [event for event in events if event is not None]

    async def _receipts(self, tickets: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The receipts that there are, by their tickets.

        Raises:
            ReceiptPollError: as for `fetch_receipts`.
        """
        until = asyncio.get_running_loop().time() + self._seconds
        answer = await self._call(self._expo.receipts_request(tickets), until)
        if isinstance(answer, TransportError):
            raise ReceiptPollError(str(answer))
        said = json_object(answer.text)
        found = said.get("data")
        if not 200 <= answer.status < 300 or said.get("errors") or not isinstance(found, dict):
            code, _ = _error_of(said)
            problem = f"no receipts in a {answer.status}" + (f" ({code})" if code else "")
            raise ReceiptPollError(problem, after=answer.retry_after())
        return {ticket: one for ticket, one in found.items() if isinstance(one, dict)}


def _error_of(said: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The code and the sentence of what is wrong with a whole request."""
    errors = said.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else {}
    first = first if isinstance(first, dict) else {}
    return text_or_none(first.get("code")), text_or_none(first.get("message"))


class ExpoOptions(CallOptions):
    """The project at Expo.

    Attributes:
        access_token_env: the access token, if the project asks for one.
        base_url: the address of the API.
    """

    access_token_env: SecretVariable = secret_variable("EXPO_ACCESS_TOKEN")
    base_url: HttpsUrl = BASE_URL


def _build(context: ProviderContext[ExpoOptions]) -> ExpoPush:
    options = context.options
    token = options.access_token_env.optional_secret()
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    return ExpoPush(
        context.name,
        Expo(options.base_url, bearer(token) if token else {}, classifier=classifier),
        transport_of(context, answer_limit=ANSWER_LIMIT),
        reader=Reader(classifier, utc_now),
        seconds=call_seconds(context),
    )


EXPO = ProviderType(options=ExpoOptions, build=_build, platform=Platform.EXPO)
