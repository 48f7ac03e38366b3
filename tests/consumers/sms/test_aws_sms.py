"""Texts by AWS End User Messaging: the contract, its requests, and its events in SNS notifications.

What a signature of a request or of a notification must be is held to published vectors and to SNS's
documentation where those are tested; here it is that they are asked for.
"""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from comms.platform.settings import SettingsError
from consumers.registry import receipt_parsers
from consumers.sdk.error_codes import Classifier
from consumers.sdk.receipts import (
    BadSignatureError,
    Inbound,
    NotSetUpError,
    Receipt,
    ReceiptEvent,
    UnmatchedReceipt,
    UnreadableReceiptError,
)
from consumers.sms.aws import CODES, AwsSmsReceipts
from consumers.vendors import sns
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason
from tests.consumers.contract.http_suite import Dialogue, NamingContract, Reply, Stub, describe
from tests.consumers.contract.samples import message, only_provider, settings_with, until
from tests.consumers.contract.suite import Subject, call

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TABLE = {
    "name": "aws",
    "region": "eu-west-1",
    "from": "+15005550006",
    "configuration_set": "comms",
}
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI"}
ARN = "arn:aws:sns:eu-west-1:123456789012:texts"
CERTIFICATE = f"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{'a1' * 16}.pem"


def error(name: str, reason: str | None = None, *, field: str | None = None) -> Reply:
    """An error as AWS writes it."""
    said: dict[str, Any] = {"__type": f"com.amazonaws.smsvoice.v20220331#{name}"}
    said |= {"Message": "As documented"} | ({"Reason": reason} if reason else {})
    said |= {"Fields": [{"Name": field, "Message": "wrong"}]} if field else {}
    return Reply(500 if name == "InternalServerException" else 400, json.dumps(said))


def sms() -> SmsMessage:
    made = message(Channel.SMS, "+12025550142")
    assert isinstance(made, SmsMessage)
    return made


def conflict(reason: str) -> Reply:
    return error("ConflictException", reason)


def invalid(reason: str, field: str | None = None) -> Reply:
    return error("ValidationException", reason, field=field)


class TestAwsSms(NamingContract):
    dialogue = Dialogue(
        channel=Channel.SMS,
        table=TABLE,
        environment=ENVIRONMENT,
        accepted=lambda n: Reply(200, json.dumps({"MessageId": f"862a8790-{n:04}"})),
        refused=invalid("FIELD_VALIDATION_FAILED", "DestinationPhoneNumber"),
        transient=error("InternalServerException"),
        probe=conflict("DESTINATION_PHONE_NUMBER_NOT_VERIFIED"),
        errors={
            "opted out": (
                conflict("DESTINATION_PHONE_NUMBER_OPTED_OUT"),
                "refused suppressed opt_out",
            ),
            "in the sandbox": (
                conflict("DESTINATION_PHONE_NUMBER_NOT_VERIFIED"),
                "refused rejected",
            ),
            "a country that is not enabled": (invalid("COUNTRY_NOT_ENABLED"), "refused rejected"),
            "nobody to send it there": (
                conflict("NO_ORIGINATION_IDENTITIES_FOUND"),
                "refused rejected",
            ),
            "a wrong text": (
                invalid("FIELD_VALIDATION_FAILED", "MessageBody"),
                "refused invalid_content",
            ),
            "something wrong": (invalid("FIELD_VALIDATION_FAILED", "Context"), "refused rejected"),
            "our sender": (invalid("INVALID_PARAMETER", "OriginationIdentity"), "blocked"),
            "our sender is not there": (error("ResourceNotFoundException"), "blocked"),
            "no permission": (error("AccessDeniedException"), "blocked"),
            "disabled": (error("AccessDeniedException", "ACCOUNT_DISABLED"), "blocked"),
            "the money of the month": (
                error("ServiceQuotaExceededException", "MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT"),
                "blocked",
            ),
            "wrong credentials": (error("UnrecognizedClientException"), "blocked"),
            "a wrong signature": (error("InvalidSignatureException"), "blocked"),
            "too many at once": (error("ThrottlingException"), "later rate_limited"),
            "named in a header": (
                Reply(400, "{}", {"x-amzn-ErrorType": "ThrottlingException:http://x"}),
                "later rate_limited",
            ),
            "a name of tomorrow": (error("NovelException"), "refused rejected"),
        },
        needs="AWS_SECRET_ACCESS_KEY",
    )

    async def test_the_request_is_awss(self, subject: Subject, stub: Stub) -> None:
        made = replace(sms(), expires_at=datetime.now(UTC) + timedelta(seconds=100))
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/")
        headers = {name.lower(): value for name, value in asked.headers.items()}
        assert headers["x-amz-target"] == "PinpointSMSVoiceV2.SendTextMessage"
        assert headers["content-type"] == "application/x-amz-json-1.0"
        day = headers["x-amz-date"][:8]
        scope = f"Credential=AKIDEXAMPLE/{day}/eu-west-1/sms-voice/aws4_request"
        signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-target"
        assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 {scope}, {signed}, ")
        value = json.loads(asked.body)
        assert 90 <= value.pop("TimeToLive") <= 100
        assert value == {
            "DestinationPhoneNumber": made.to,
            "MessageBody": "Hello",
            "OriginationIdentity": "+15005550006",
            "ConfigurationSetName": "comms",
            "MessageType": "TRANSACTIONAL",
            "Context": {"message_id": str(made.id)},
        }

    async def test_the_probe_is_checked_and_not_sent(self, subject: Subject, stub: Stub) -> None:
        assert await subject.provider.probe() is None
        value = json.loads(stub.requests[-1].body)
        assert value["DryRun"] is True
        assert value["DestinationPhoneNumber"] == "+14254147755"

    async def test_a_messages_own_sender_is_not_the_accounts_fault(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(invalid("INVALID_PARAMETER", "OriginationIdentity"))
        assert isinstance(made, SmsMessage)
        outcome = await call(subject.provider, replace(made, sender="Acme"))
        assert describe(outcome) == "refused invalid_content"
        assert json.loads(stub.requests[-1].body)["OriginationIdentity"] == "Acme"


async def test_a_probe_tells_a_wrong_key() -> None:
    dialogue = replace(TestAwsSms.dialogue, probe=error("UnrecognizedClientException"))
    stub = Stub(dialogue)
    await stub.start()
    provider = dialogue.provider(stub.url)
    await provider.open()
    assert await provider.probe() == "the provider answers 400"
    await provider.close()
    await stub.stop()


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"region": "Ireland"}, "region"),
        ({"message_type": "URGENT"}, "message_type"),
        ({"topic_arn": "texts"}, "topic_arn"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(more: dict[str, str], key: str) -> None:
    settings = settings_with(Channel.SMS, {**TABLE, **more}, environment=ENVIRONMENT)
    with pytest.raises(SettingsError) as caught:
        _ = (receipt_parsers(settings), only_provider(settings, Channel.SMS))
    assert caught.value.key == f"sms.providers[aws].{key}"


def test_without_a_topic_nothing_is_proved() -> None:
    settings = settings_with(Channel.SMS, TABLE, environment=ENVIRONMENT)
    with pytest.raises(NotSetUpError, match="topic_arn"):
        receipt_parsers(settings)[Channel.SMS, "aws"].parse({}, b"", "")


KEY, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(KEY.public_key()).serial_number(1)
    made = made.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=365))
    return made.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def notification(text: str, *, key: rsa.RSAPrivateKey = KEY) -> bytes:
    """A notification of SNS, signed as its documentation says."""
    value = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": ARN,
        "Message": text,
        "Timestamp": "2026-11-23T11:59:59.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
    }
    names = ("Message", "MessageId", "Timestamp", "TopicArn", "Type")
    signing = "".join(f"{name}\n{value[name]}\n" for name in names).encode()
    signature = key.sign(signing, padding.PKCS1v15(), hashes.SHA256())
    return json.dumps({**value, "Signature": base64.b64encode(signature).decode()}).encode()


async def primed() -> AwsSmsReceipts:
    """A parser that has the certificate."""
    topic = sns.Topic(ARN, fetch=lambda _: certificate())
    classifier = Classifier(CODES, channel=Channel.SMS, provider="aws")
    made = AwsSmsReceipts(topic, classifier=classifier, clock=lambda: NOW)

    def is_here() -> bool:
        try:
            made.parse({}, notification('{"eventType": "TEXT_QUEUED"}'), "")
        except NotSetUpError:
            return False
        return True

    await until(is_here)
    return made


async def said(value: dict[str, Any]) -> list[ReceiptEvent]:
    return list((await primed()).parse({}, notification(json.dumps(value)), ""))


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventVersion": "1.0",
        "eventTimestamp": 1795435198000,
        "isFinal": True,
        "destinationPhoneNumber": "+12025550142",
        "messageId": "862a8790-60c0-4430-9b2b-658bdexample",
        "messageStatus": kind.removeprefix("TEXT_"),
        "messageStatusDescription": "As documented",
        **more,
    }


async def test_a_receipt_finds_its_message_by_its_context() -> None:
    ours = new_message_id()
    (found,) = await said(event("TEXT_DELIVERED", context={"message_id": str(ours)}))
    assert isinstance(found, Receipt)
    assert (found.message_id, found.delivered) == (ours, True)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, 58, tzinfo=UTC)
    assert found.response.provider_message_id == "862a8790-60c0-4430-9b2b-658bdexample"


@pytest.mark.parametrize("context", [{}, {"account": "bar"}, {"message_id": "7"}, None])
async def test_one_with_another_context_is_left_to_the_ledger(context: object) -> None:
    (found,) = await said(event("TEXT_DELIVERED", context=context, eventTimestamp="soon"))
    assert isinstance(found, UnmatchedReceipt)
    assert found.occurred_at == NOW


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("TEXT_INVALID", Reason.INVALID_RECIPIENT),
        ("TEXT_INVALID_MESSAGE", Reason.INVALID_CONTENT),
        ("TEXT_UNREACHABLE", Reason.UNDELIVERED),
        ("TEXT_BLOCKED", Reason.UNDELIVERED),
        ("TEXT_TTL_EXPIRED", Reason.UNDELIVERED),
    ],
)
async def test_a_failure_says_why(kind: str, reason: Reason) -> None:
    (found,) = await said(event(kind))
    assert isinstance(found, UnmatchedReceipt)
    assert (found.delivered, found.reason, found.response.code) == (False, reason, kind)


@pytest.mark.parametrize("kind", ["TEXT_QUEUED", "TEXT_SENT", "TEXT_SUCCESSFUL", "TEXT_UNKNOWN"])
async def test_what_is_on_its_way_or_never_known_is_no_receipt(kind: str) -> None:
    assert await said(event(kind)) == []


async def test_what_people_write_is_no_receipt_either() -> None:
    value = {
        "originationNumber": "+12025550142",
        "destinationNumber": "+15005550006",
        "messageKeyword": "STOP",
        "messageBody": "Stop",
        "inboundMessageId": "cae173d2-66b9-564c-8309-21f858e9fb84",
    }
    expected = Inbound(from_="+12025550142", to="+15005550006", text="Stop")
    assert await said(value) == [expected]


async def test_what_sns_did_not_sign_is_refused() -> None:
    parser, text = await primed(), json.dumps(event("TEXT_DELIVERED"))
    changed = notification(text).replace(b"TEXT_DELIVERED", b"TEXT_INVALID!!")
    for body in (notification(text, key=OTHER), changed, text.encode()):
        with pytest.raises(BadSignatureError):
            parser.parse({}, body, "")


async def test_signed_words_that_are_no_event_are_unreadable() -> None:
    with pytest.raises(UnreadableReceiptError):
        (await primed()).parse({}, notification("Successfully validated"), "")
