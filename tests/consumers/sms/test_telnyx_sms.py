"""Texts by Telnyx: the contract, its requests, and its signed events."""

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

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
from consumers.sms.telnyx import CODES, TelnyxSmsReceipts, verify
from schemas.ids import new_message_id
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.http_suite import (
    PUBLIC_URL,
    Dialogue,
    NamingContract,
    Reply,
    Stub,
    describe,
)
from tests.consumers.contract.samples import message, only_provider, settings_with
from tests.consumers.contract.suite import Subject, call

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
URL = f"{PUBLIC_URL}/receipts/sms/telnyx"
TABLE = {"name": "telnyx", "from": "+15005550006"}
ENVIRONMENT = {"TELNYX_API_KEY": "KEY0123_secret"}


def error(status: int, code: str, pointer: str | None = None) -> Reply:
    """An error as Telnyx writes it."""
    source = {"source": {"pointer": pointer}} if pointer else {}
    value = {"code": code, "title": "As documented", "detail": "What is wrong", **source}
    return Reply(status, json.dumps({"errors": [value]}))


def accepted(number: int) -> Reply:
    to = [{"phone_number": "+12025550142", "status": "queued", "carrier": "", "line_type": ""}]
    data = {"record_type": "message", "id": f"40385f64-{number:04}", "to": to, "errors": []}
    return Reply(200, json.dumps({"data": data}))


def refused_in_success(code: str) -> Reply:
    """An answer of success that says that nothing was sent."""
    data = {"id": "1", "to": [{"status": "sending_failed"}], "errors": [{"code": code}]}
    return Reply(200, json.dumps({"data": data}))


def sms() -> SmsMessage:
    made = message(Channel.SMS, "+12025550142")
    assert isinstance(made, SmsMessage)
    return made


class TestTelnyxSms(NamingContract):
    dialogue = Dialogue(
        channel=Channel.SMS,
        table=TABLE,
        environment=ENVIRONMENT,
        accepted=accepted,
        refused=error(422, "40310"),
        transient=error(500, "10007"),
        errors={
            "invalid": (error(400, "10002", "/to"), "refused invalid_recipient"),
            "not routable": (error(400, "40001"), "refused invalid_recipient"),
            "opted out": (error(403, "40300"), "refused suppressed opt_out"),
            "a region that is not enabled": (error(400, "40309"), "refused rejected"),
            "too large": (error(400, "40302"), "refused invalid_content"),
            "refused in an answer of success": (
                refused_in_success("40001"),
                "refused invalid_recipient",
            ),
            "the same, in words of tomorrow": (refused_in_success("49999"), "refused rejected"),
            "our sender": (error(400, "40305"), "blocked"),
            "our sender's form": (error(400, "10002", "/from"), "blocked"),
            "wrong credentials": (error(401, "10009"), "blocked"),
            "no credit": (error(402, "20100"), "blocked"),
            "the profile is disabled": (error(400, "40312"), "blocked"),
            "too many at once": (error(429, "10011"), "later rate_limited"),
            "the queue is full": (error(400, "40318"), "later rate_limited"),
            "spam, for now": (error(400, "40002"), "later provider_error"),
            "the same key twice at once": (Reply(409, "{}"), "later provider_error"),
            "it timed out inside": (error(408, "10008"), "ambiguous"),
            "a code of tomorrow": (error(400, "49999"), "refused rejected"),
        },
        needs="TELNYX_API_KEY",
    )

    async def test_the_request_is_telnyxs(self, subject: Subject, stub: Stub) -> None:
        made = sms()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v2/messages")
        assert asked.headers["Authorization"] == "Bearer KEY0123_secret"
        assert json.loads(asked.body) == {
            "to": made.to,
            "from": "+15005550006",
            "text": "Hello",
            "webhook_url": f"{URL}?m={made.id}",
        }

    async def test_a_messages_own_sender_is_not_the_accounts_fault(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(error(400, "40305"))
        assert isinstance(made, SmsMessage)
        outcome = await call(subject.provider, replace(made, sender="Acme"))
        assert describe(outcome) == "refused invalid_content"

    async def test_a_profile_may_choose_the_number(self, stub: Stub) -> None:
        table = {"name": "telnyx", "messaging_profile_id": "4000"}
        provider = replace(self.dialogue, table=table).provider(stub.url)
        await provider.open()
        await call(provider, sms())
        await provider.close()
        value = json.loads(stub.requests[-1].body)
        assert value["messaging_profile_id"] == "4000"
        assert "from" not in value


def test_a_sender_or_a_profile_is_needed() -> None:
    settings = settings_with(Channel.SMS, {"name": "telnyx"}, environment=ENVIRONMENT)
    with pytest.raises(SettingsError, match="messaging_profile_id") as caught:
        only_provider(settings, Channel.SMS)
    assert caught.value.key == "sms.providers[telnyx].from"


def test_receipts_need_a_public_key_that_is_one() -> None:
    environment = {**ENVIRONMENT, "TELNYX_PUBLIC_KEY": "half a key"}
    parsers = receipt_parsers(settings_with(Channel.SMS, TABLE, environment=environment))
    with pytest.raises(NotSetUpError, match=r"sms\.providers\[telnyx\]\.public_key_env: must hold"):
        parsers[Channel.SMS, "telnyx"].parse({}, b"", "")


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def parser() -> TelnyxSmsReceipts:
    classifier = Classifier(CODES, channel=Channel.SMS, provider="telnyx")
    return TelnyxSmsReceipts(KEY.public_key(), classifier=classifier, clock=lambda: NOW)


def headers_of(body: bytes, *, seconds: int = 0) -> dict[str, str]:
    """The headers with which Telnyx sends a body, signed some seconds from now."""
    time = str(int(NOW.timestamp()) + seconds)
    signature = KEY.sign(time.encode() + b"|" + body)
    return {
        "telnyx-timestamp": time,
        "telnyx-signature-ed25519": b64encode(signature).decode(),
    }


def said(event_type: str | None, payload: dict[str, Any]) -> list[ReceiptEvent]:
    data = {
        "id": "4ee8c3a6-4995-4309-a3c6-38e3db9ea4be",
        "event_type": event_type,
        "occurred_at": "2026-11-23T11:59:58.148+00:00",
        "payload": payload,
    }
    body = json.dumps({"data": data, "meta": {"attempt": 1}}).encode()
    return list(parser().parse(headers_of(body), body, URL))


def sent(status: str, **more: Any) -> dict[str, Any]:
    to = [{"phone_number": "+12025550142", "status": status}]
    return {"id": "40385f64", "to": to, "from": {"phone_number": "+15005550006"}, **more}


def test_a_receipt_finds_its_message_by_the_address_that_is_signed() -> None:
    ours = new_message_id()
    (found,) = said("message.finalized", sent("delivered", webhook_url=f"{URL}?m={ours}"))
    assert isinstance(found, Receipt)
    assert (found.message_id, found.delivered) == (ours, True)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, 58, 148000, tzinfo=UTC)
    assert found.response.provider_message_id == "40385f64"


def test_the_address_it_came_to_is_not_believed() -> None:
    body = json.dumps(
        {"data": {"event_type": "message.finalized", "payload": sent("delivered")}}
    ).encode()
    (found,) = parser().parse(headers_of(body), body, f"{URL}?m={new_message_id()}")
    assert isinstance(found, UnmatchedReceipt)
    assert found.occurred_at == NOW


@pytest.mark.parametrize("status", ["sending_failed", "delivery_failed", "expired"])
@pytest.mark.parametrize(
    ("errors", "code", "reason", "suppress"),
    [
        ([{"code": "40001"}], "40001", Reason.INVALID_RECIPIENT, None),
        ([{"code": "40300"}], "40300", Reason.SUPPRESSED, SuppressionReason.OPT_OUT),
        ([{"code": "40008"}], "40008", Reason.UNDELIVERED, None),
        ([{"code": "49999"}], "49999", Reason.UNDELIVERED, None),
        ([], None, Reason.UNDELIVERED, None),
    ],
    ids=str,
)
def test_a_failure_says_why(
    status: str,
    errors: list[dict[str, str]],
    code: str | None,
    reason: Reason,
    suppress: SuppressionReason | None,
) -> None:
    (found,) = said("message.finalized", sent(status, errors=errors))
    assert isinstance(found, UnmatchedReceipt)
    assert not found.delivered
    assert (found.reason, found.suppress, found.response.code) == (reason, suppress, code or status)


@pytest.mark.parametrize(
    ("event_type", "status"),
    [
        ("message.sent", "sent"),
        ("message.finalized", "delivery_unconfirmed"),
        ("call.hangup", "delivered"),
    ],
)
def test_what_is_on_its_way_or_never_known_is_no_receipt(event_type: str, status: str) -> None:
    assert said(event_type, sent(status)) == []


@pytest.mark.parametrize(("more", "stop"), [({}, False), ({"autoresponse_type": "STOP"}, True)])
def test_what_people_write_is_no_receipt_either(more: dict[str, str], stop: bool) -> None:
    payload = {
        "direction": "inbound",
        "from": {"phone_number": "+12025550142"},
        "to": [{"phone_number": "+15005550006", "status": "webhook_delivered"}],
        "text": "Stop",
        **more,
    }
    expected = Inbound(from_="+12025550142", to="+15005550006", text="Stop", stop=stop)
    assert said("message.received", payload) == [expected]


def test_what_telnyxs_own_library_accepted_is_accepted() -> None:
    """Recorded from version 4.189 of it, which took this at noon: its key is of bytes 0 to 31."""
    body = (
        '{"data":{"event_type":"message.finalized","id":"4ee8c3a6-4995-4309-a3c6-38e3db9ea4be",'
        '"occurred_at":"2026-11-23T12:00:00.148+00:00","payload":{"id":"40385f64-5717-4562-b3fc-'
        '2c963f66afa6","to":[{"phone_number":"+12025550142","status":"delivered"}],"text":"café"}}}'
    ).encode()
    key = Ed25519PublicKey.from_public_bytes(
        b64decode("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=")
    )
    headers = {
        "telnyx-timestamp": "1795435200",
        "telnyx-signature-ed25519": (
            "Wwg5awkNgXwZXnLwnRRx+G80UEtTbaX92jknKI9k4OtPDUgILBEaof9nDkuFNatJqjU1ohOMD1b3a07Q3rYnAw=="
        ),
    }
    verify(headers, body, key=key, now=NOW)
    with pytest.raises(BadSignatureError):
        verify(headers, body.replace(b"delivered", b"delivereD"), key=key, now=NOW)


BODY = b'{"data": {}}'


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**headers_of(BODY), "telnyx-signature-ed25519": ""},
        {**headers_of(BODY), "telnyx-signature-ed25519": "é?"},
        {**headers_of(BODY), "telnyx-timestamp": str(int(NOW.timestamp()) + 1)},
        headers_of(BODY + b" "),
        headers_of(BODY, seconds=-301),
        headers_of(BODY, seconds=301),
    ],
    ids=["none", "no signature", "garbled", "other time", "other body", "old", "of tomorrow"],
)
def test_what_telnyx_did_not_sign_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignatureError):
        parser().parse(headers, BODY, URL)


def test_signed_words_that_are_no_event_are_unreadable() -> None:
    with pytest.raises(UnreadableReceiptError):
        parser().parse(headers_of(BODY), BODY, URL)
