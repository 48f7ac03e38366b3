"""The names that other projects import. To add or remove one is a decision, made here.

A plug-in imports from `consumers.sdk`; a workflow developer from `producer.outbox` and `schemas`.
"""

import importlib
import inspect
from types import ModuleType

import pytest

import consumers.sdk

SDK = """
ACCOUNT ANY_MODE CONTENT GONE INVALID_RECIPIENT LIMITED LIVE LIVE_AND_TEST NEVER_LIVE OPTED_OUT
REJECTED SENDER TRANSIENT UNCLEAR Accepted AccountError Ambiguous Answer AnswerLostError Ascii
Attempt BadSignatureError Byte CallOptions CertificateFile Classifier Clock CountryCode
ErrorTable Fault HandedToCarrier HttpProvider HttpTransport HttpsUrl Inbound Meaning
MissingSecretError NotSentError NotSetUpError Outcome PollSchedule PollableProvider Port
Provider ProviderContext ProviderOptions ProviderResponse ProviderType Receipt ReceiptEvent
ReceiptNotStoredError ReceiptParser ReceiptPollError ReceiptQuery Refused Request RequestCodec
Seconds Secret SecretVariable SettingsError StoreReceipts StreamingProvider Text TransportError
TryLater UnmatchedReceipt UnreadableReceiptError WebhookError WrongValueError
accepted_or_ambiguous basic_auth bearer call_seconds callback_url check_signature_age form_request
json_object json_request live_and_test live_only message_id_in moment outcome_of read_options
reason_of_failure secret_variable text_or_none transport_of utc_now uuid_or_none
"""

MODULES = {
    "producer.outbox": "Outbox",
    "schemas.codec": "Codec Registry fingerprint_of schema_of source_of",
    "schemas.errors": """
ContractError IncompatibleSchemaError InvalidRecordError UndecodableError UnknownSchemaError
Violation
""",
    "schemas.ids": "carries_slot event_id new_message_id slot_of time_of with_slot",
    "schemas.messages": """
Attachment EmailMessage Envelope MessageHeader PushMessage SmsMessage VoiceMessage
WebPushSubscription
""",
    "schemas.vocabulary": """
Channel Mode OnDoubt Platform Priority Reason Status SuppressionReason
""",
}


def defined_in(module: ModuleType) -> set[str]:
    """Return the public classes and functions that a module defines."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


def test_the_sdk_exports_exactly_these_names() -> None:
    assert consumers.sdk.__all__ == SDK.split()
    assert all(hasattr(consumers.sdk, name) for name in SDK.split())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_defines_exactly_these_names(name: str) -> None:
    assert defined_in(importlib.import_module(name)) == set(MODULES[name].split())
