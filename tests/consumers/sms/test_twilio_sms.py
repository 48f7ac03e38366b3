"""Texts by Twilio: the contract, its requests, and its signed callbacks held to its own library."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode

import pytest
from twilio.request_validator import RequestValidator

from comms.platform.settings import Secret
from consumers.sdk.error_codes import Classifier
from consumers.sdk.receipts import (
    BadSignatureError,
    Inbound,
    Receipt,
    ReceiptEvent,
    UnmatchedReceipt,
)
from consumers.sms.twilio import CODES, TwilioSmsReceipts
from consumers.vendors import twilio
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
from tests.consumers.contract.samples import message
from tests.consumers.contract.suite import Subject, call

SID, TOKEN = "AC" + "0123456789abcdef" * 2, "the auth token"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
URL = f"{PUBLIC_URL}/receipts/sms/twilio"


def error(status: int, code: int, said: str = "As documented") -> Reply:
    """An error as Twilio writes it."""
    more = f"https://www.twilio.com/docs/errors/{code}"
    value = {"code": code, "message": said, "more_info": more, "status": status}
    return Reply(status, json.dumps(value))


def sms() -> SmsMessage:
    made = message(Channel.SMS, "+12025550142")
    assert isinstance(made, SmsMessage)
    return made


class TestTwilioSms(NamingContract):
    dialogue = Dialogue(
        channel=Channel.SMS,
        table={"name": "twilio", "from": "+15005550006"},
        environment={"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": TOKEN},
        accepted=lambda n: Reply(201, json.dumps({"sid": f"SM{n:032x}", "status": "queued"})),
        refused=error(400, 21211),
        transient=error(503, 20503),
        errors={
            "not a mobile number": (error(400, 21614), "refused invalid_recipient"),
            "opted out": (error(400, 21610), "refused suppressed opt_out"),
            "no route": (error(400, 21612), "refused invalid_recipient"),
            "a country that is not enabled": (error(400, 21408), "refused rejected"),
            "too long": (error(400, 21617), "refused invalid_content"),
            "our sender": (error(400, 21606), "blocked"),
            "wrong credentials": (error(401, 20003), "blocked"),
            "no such account": (error(404, 20404), "blocked"),
            "suspended": (error(400, 30002), "blocked"),
            "too many at once": (error(429, 20429), "later rate_limited"),
            "the sender's queue": (error(429, 21611), "later rate_limited"),
            "internal": (error(500, 20500), "later provider_error"),
            "a code of tomorrow": (error(400, 29999), "refused rejected"),
            "created, and failed": (
                Reply(201, '{"sid": "SM1", "status": "failed", "error_code": 30005}'),
                "refused invalid_recipient",
            ),
        },
        needs="TWILIO_AUTH_TOKEN",
    )

    async def test_no_error_is_no_code(self, subject: Subject, stub: Stub) -> None:
        """Twilio writes null there; a zero means the same."""
        made = Reply(201, json.dumps({"sid": "SM1", "status": "queued", "error_code": 0}))
        outcome = await call(subject.provider, stub.message(made))
        assert describe(outcome) == "accepted"
        assert outcome.response.code == "201"

    @pytest.mark.parametrize(
        ("status", "problem"),
        [("active", None), ("suspended", "the account is suspended")],
    )
    async def test_a_probe_reads_how_the_account_stands(
        self, status: str, problem: str | None
    ) -> None:
        dialogue = replace(self.dialogue, probe=Reply(200, json.dumps({"status": status})))
        stub = Stub(dialogue)
        await stub.start()
        provider = dialogue.provider(stub.url)
        await provider.open()
        assert await provider.probe() == problem
        await provider.close()
        await stub.stop()

    async def test_the_request_is_twilios(self, subject: Subject, stub: Stub) -> None:
        made = replace(sms(), expires_at=datetime.now(UTC) + timedelta(seconds=100))
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", f"/2010-04-01/Accounts/{SID}/Messages.json")
        fields = {name: value for name, (value,) in parse_qs(asked.body.decode()).items()}
        assert 90 <= int(fields.pop("ValidityPeriod")) <= 100
        assert fields == {
            "To": made.to,
            "From": "+15005550006",
            "Body": "Hello",
            "StatusCallback": f"{URL}?m={made.id}",
        }

    async def test_a_messages_own_sender_is_not_the_accounts_fault(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(error(400, 21606))
        assert isinstance(made, SmsMessage)
        outcome = await call(subject.provider, replace(made, sender="+15005550007"))
        assert f"refused {getattr(outcome, 'reason', None)}" == "refused invalid_content"

    async def test_a_messaging_service_and_an_api_key_take_the_places_of_number_and_token(
        self, stub: Stub
    ) -> None:
        table = {"name": "twilio", "messaging_service_sid": "MG1"}
        environment = {"TWILIO_ACCOUNT_SID": SID, "TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "s"}
        dialogue = replace(self.dialogue, table=table, environment=environment)
        provider = dialogue.provider(stub.url)
        await provider.open()
        await call(provider, sms())
        await provider.close()
        assert parse_qs(stub.requests[-1].body.decode())["MessagingServiceSid"] == ["MG1"]
        assert stub.requests[-1].headers["Authorization"] == "Basic U0sxOnM="


def parser(*, shared: Secret | None = None) -> TwilioSmsReceipts:
    keys = twilio.Keys(token=Secret(TOKEN), shared=shared)
    classifier = Classifier(CODES, channel=Channel.SMS, provider="twilio")
    return TwilioSmsReceipts(keys, classifier=classifier, clock=lambda: NOW)


def said(fields: dict[str, str], url: str = URL) -> list[ReceiptEvent]:
    """What a callback says, signed by Twilio's own library."""
    headers = {
        "x-twilio-signature": RequestValidator(TOKEN).compute_signature(url, fields),
        "content-type": "application/x-www-form-urlencoded",
    }
    return list(parser().parse(headers, urlencode(fields).encode(), url))


def status(word: str, **more: str) -> dict[str, str]:
    return {"MessageSid": "SM1", "MessageStatus": word, "To": "+12025550142", "Empty": "", **more}


def test_a_receipt_finds_its_message_by_the_address_it_came_to() -> None:
    ours = new_message_id()
    (found,) = said(status("delivered"), f"{URL}?m={ours}")
    assert isinstance(found, Receipt)
    assert (found.message_id, found.delivered, found.occurred_at) == (ours, True, NOW)
    assert found.response.provider_message_id == "SM1"


def test_one_without_our_id_is_left_to_the_ledger() -> None:
    (found,) = said(status("read"))
    assert isinstance(found, UnmatchedReceipt)
    assert found.response.provider_message_id == "SM1"


@pytest.mark.parametrize(
    ("code", "reason", "suppress"),
    [
        ("30005", Reason.INVALID_RECIPIENT, None),
        ("30003", Reason.UNDELIVERED, None),
        ("30007", Reason.UNDELIVERED, None),
        ("21610", Reason.SUPPRESSED, SuppressionReason.OPT_OUT),
        ("39999", Reason.UNDELIVERED, None),
    ],
)
def test_a_failure_says_why(code: str, reason: Reason, suppress: SuppressionReason | None) -> None:
    (found,) = said(status("undelivered", ErrorCode=code), f"{URL}?m={new_message_id()}")
    assert isinstance(found, Receipt)
    assert not found.delivered
    assert (found.reason, found.suppress, found.response.code) == (reason, suppress, code)


@pytest.mark.parametrize("word", ["accepted", "scheduled", "queued", "sending", "sent"])
def test_what_is_on_its_way_is_no_receipt(word: str) -> None:
    assert said(status(word)) == []


@pytest.mark.parametrize(
    ("more", "stop"), [({}, False), ({"OptOutType": "STOP"}, True), ({"OptOutType": "HELP"}, False)]
)
def test_what_people_write_is_no_receipt_either(more: dict[str, str], stop: bool) -> None:
    fields = {"From": "+12025550142", "To": "+15005550006", "Body": "Stop", "SmsStatus": "received"}
    (found,) = said({**fields, **more})
    assert found == Inbound(from_="+12025550142", to="+15005550006", text="Stop", stop=stop)
    assert "+12025550142" not in repr(found)


def test_the_published_vector() -> None:
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+12349013030",
        "Digits": "1234",
        "From": "+12349013030",
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    found = twilio.signature(Secret("12345"), url, list(fields.items()))
    assert found == "0/KCTR6DLpKmkAf8muzZqo1nDgQ="


@pytest.mark.parametrize("signed_for", [URL, URL.replace("example.com", "example.com:443")])
def test_the_port_may_be_signed_or_not(signed_for: str) -> None:
    fields = status("delivered")
    signed = RequestValidator(TOKEN).compute_signature(signed_for, fields)
    headers = {"x-twilio-signature": signed}
    assert parser().parse(headers, urlencode(fields).encode(), URL)


@pytest.mark.parametrize("changed", ["body", "url", "signature", "token"])
def test_what_twilio_did_not_sign_is_refused(changed: str) -> None:
    fields, url = status("delivered"), URL
    token = "another" if changed == "token" else TOKEN
    signed = RequestValidator(token).compute_signature(url, fields)
    if changed == "body":
        fields["MessageStatus"] = "failed"
    headers = {"x-twilio-signature": "" if changed == "signature" else signed}
    url += "?m=1" if changed == "url" else ""
    with pytest.raises(BadSignatureError):
        parser().parse(headers, urlencode(fields).encode(), url)


def test_json_is_signed_by_its_hash() -> None:
    body = json.dumps(status("delivered")).encode()
    url = f"{URL}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signed = RequestValidator(TOKEN).compute_signature(url, {})
    headers = {"x-twilio-signature": signed, "content-type": "application/json"}
    assert RequestValidator(TOKEN).validate(url, body.decode(), signed)
    assert len(parser().parse(headers, body, url)) == 1
    with pytest.raises(BadSignatureError):
        parser().parse(headers, body.replace(b"delivered", b"failed"), url)


def test_a_shared_key_signs_with_sha256_where_it_is_set_up() -> None:
    fields = status("delivered")
    signed = RequestValidator("shared").compute_signature(URL, fields, "HMAC_SHA256")
    headers = {
        "x-twilio-signature": signed,
        "x-twilio-webhooks-signature-settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
    }
    body = urlencode(fields).encode()
    assert parser(shared=Secret("shared")).parse(headers, body, URL)
    with pytest.raises(BadSignatureError):
        parser().parse(headers, body, URL)
