"""A provider type for text messages that takes idempotency keys, which no other type here does.

Tests install it as another package would, by an entry point (`install_keyed`).
"""

from pathlib import Path

import pytest
from pydantic import Field

from consumers.sdk.error_codes import INVALID_RECIPIENT, Classifier, ErrorTable
from consumers.sdk.http_provider import (
    HttpProvider,
    Request,
    json_object,
    json_request,
    text_or_none,
    transport_of,
)
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import CallOptions, HttpsUrl, Text
from consumers.sdk.outcomes import Outcome, accepted_or_ambiguous
from consumers.sdk.provider import Attempt
from consumers.sdk.provider_type import ProviderContext, ProviderType
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage
from tests.provider_types import install

CODES = ErrorTable(source="https://keyed.example.com/errors", codes={"nobody": INVALID_RECIPIENT})


class Keyed:
    """Its request codec."""

    def __init__(self, url: str, classifier: Classifier) -> None:
        self._url = url
        self._classifier = classifier

    async def request(self, message: SmsMessage, attempt: Attempt) -> Request | Outcome:
        headers = {"Idempotency-Key": attempt.idempotency_key}
        return json_request(f"{self._url}/messages", {"to": message.to}, headers)

    def read(self, message: SmsMessage, answer: Answer) -> Outcome:
        del message
        body = json_object(answer.text)
        response = ProviderResponse(
            provider_message_id=text_or_none(body.get("sid")),
            code=text_or_none(body.get("code")) or str(answer.status),
            raw=answer.text,
        )
        if 200 <= answer.status < 300:
            return accepted_or_ambiguous(response)
        return self._classifier.outcome(response, status=answer.status)

    def probe(self) -> None:
        return None


class KeyedOptions(CallOptions):
    """The address of the API; the sender is accepted and not used."""

    base_url: HttpsUrl = "https://keyed.example.com"
    sender: Text | None = Field(alias="from", default=None)


def _build(context: ProviderContext[KeyedOptions]) -> HttpProvider[SmsMessage]:
    classifier = Classifier(CODES, channel=context.channel, provider=context.name)
    codec = Keyed(context.options.base_url, classifier)
    return HttpProvider(context.name, codec, transport_of(context))


KEYED = ProviderType(options=KeyedOptions, build=_build, has_probe=False, has_idempotency_key=True)


def install_keyed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the type as `keyed`."""
    install(folder, monkeypatch, name="sms.keyed", leads_to="tests.consumers.keyed:KEYED")
