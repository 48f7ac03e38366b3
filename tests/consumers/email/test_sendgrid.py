"""E-mail by SendGrid: the contract, its requests, and its signed events held to its own library."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sendgrid.helpers.eventwebhook import EventWebhook

from consumers.registry import receipt_parsers
from consumers.sdk.outcomes import TryLater
from consumers.sdk.receipts import (
    BadSignatureError,
    NotSetUpError,
    Receipt,
    ReceiptParser,
    UnreadableReceiptError,
)
from schemas.ids import new_message_id
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.http_suite import Dialogue, HttpContract, Reply, Stub
from tests.consumers.contract.samples import settings_with
from tests.consumers.contract.suite import Subject, call
from tests.consumers.email.mails import (
    FILE_IN_BASE64,
    FROM,
    LOGO_IN_BASE64,
    NOW,
    ONE_CLICK,
    TO,
    bytes_of,
    full_mail,
    header,
    marked,
    recipient,
    shown_mail,
)

KEY = ec.generate_private_key(ec.SECP256R1())
URL = "https://comms.example.com/receipts/email/sendgrid"
SIGNATURE, TIMESTAMP = (
    "x-twilio-email-event-webhook-signature",
    "x-twilio-email-event-webhook-timestamp",
)


def error(status: int, field: str | None = None, said: str = "As documented") -> Reply:
    """An error as SendGrid writes it."""
    value = {"errors": [{"message": said, "field": field, "help": None}]}
    return Reply(status, json.dumps(value))


class TestSendGrid(HttpContract):
    dialogue = Dialogue(
        channel=Channel.EMAIL,
        table={"name": "sendgrid", "from": FROM},
        environment={"SENDGRID_API_KEY": "SG.the-key"},
        accepted=lambda n: Reply(202, "", {"X-Message-Id": f"xMxgzVPRSq-{n}"}),
        refused=error(400, "personalizations.0.to.0.email", "Does not contain a valid address."),
        transient=error(503),
        errors={
            "an address": (error(400, "personalizations.0.to"), "refused invalid_recipient"),
            "our sender": (error(403, "from", "… a verified Sender Identity. …"), "blocked"),
            "our sender's address": (error(400, "from.email"), "blocked"),
            "no content": (error(400, "content.0.value"), "refused invalid_content"),
            "an attachment": (error(400, "attachments.0.content"), "refused invalid_content"),
            "a header": (error(400), "refused invalid_content"),
            "too large": (error(413), "refused invalid_content"),
            "a wrong key": (error(401), "blocked"),
            "no credit": (error(401, None, "Maximum credits exceeded"), "blocked"),
            "too many bad requests": (error(403), "blocked"),
            "too many at once": (error(429), "later rate_limited"),
            "where data may stay": (error(451), "refused rejected"),
            "internal": (error(500), "later provider_error"),
        },
        needs="SENDGRID_API_KEY",
        recipient=recipient,
    )

    async def test_the_request_is_sendgrids(self, subject: Subject, stub: Stub) -> None:
        made = full_mail()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v3/mail/send")
        assert header(asked.headers, "authorization") == "Bearer SG.the-key"
        value = json.loads(asked.body)
        own = value["personalizations"][0].pop("custom_args")
        assert own["comms_message"].startswith(f"{made.id}_")
        assert value == {
            "personalizations": [
                {
                    "to": [{"email": TO, "name": "Pérson"}],
                    "cc": [{"email": "bo@example.com", "name": "Bo, Jr"}],
                    "bcc": [{"email": "eve@xn--bcher-kva.example"}],
                }
            ],
            "from": {"email": "team@acme.example", "name": "Team"},
            "reply_to": {"email": "desk@acme.example", "name": "Desk"},
            "subject": "Grüße",
            "content": [
                {"type": "text/plain", "value": "Hello"},
                {"type": "text/html", "value": "<p>Hello</p>"},
            ],
            "headers": {"X-Campaign": "autumn"},
            "attachments": [
                {"content": FILE_IN_BASE64, "filename": "été.pdf", "type": "application/pdf"}
            ],
        }

    async def test_an_image_is_inside_and_a_click_unsubscribes(
        self, subject: Subject, stub: Stub
    ) -> None:
        await call(subject.provider, shown_mail())
        value = json.loads(stub.requests[-1].body)
        assert value["headers"] == ONE_CLICK
        assert value["attachments"] == [
            {
                "content": LOGO_IN_BASE64,
                "filename": "logo.png",
                "type": "image/png",
                "disposition": "inline",
                "content_id": "logo",
            }
        ]

    async def test_a_limit_is_waited_out_until_it_begins_anew(
        self, subject: Subject, stub: Stub
    ) -> None:
        reset = str(int(time.time()) + 60)
        reply = Reply(429, "", {"X-RateLimit-Reset": reset})
        outcome = await call(subject.provider, stub.message(reply))
        assert isinstance(outcome, TryLater)
        assert outcome.reason is Reason.RATE_LIMITED
        assert outcome.after is not None
        assert 50 <= outcome.after <= 60

    async def test_the_probe_asks_what_the_key_may(self, subject: Subject, stub: Stub) -> None:
        assert await subject.provider.probe() is None
        assert (stub.requests[-1].method, stub.requests[-1].path) == ("GET", "/v3/scopes")


def spki(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """A public key as SendGrid shows it."""
    written = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(written).decode()


def parser(key: str | None = None, *, now: datetime = NOW) -> ReceiptParser:
    settings = settings_with(
        Channel.EMAIL,
        {"name": "sendgrid", "from": FROM},
        environment={"SENDGRID_WEBHOOK_PUBLIC_KEY": key or spki(KEY)},
    )
    return receipt_parsers(settings, lambda: now)[Channel.EMAIL, "sendgrid"]


def signed(
    body: bytes, *, at: datetime = NOW, key: ec.EllipticCurvePrivateKey = KEY
) -> dict[str, str]:
    stamp = str(int(at.timestamp()))
    signature = key.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))
    return {SIGNATURE: base64.b64encode(signature).decode(), TIMESTAMP: stamp}


def event(kind: str, mark: str | None = None, **more: Any) -> dict[str, Any]:
    """An event as SendGrid writes it: the mark stands among its own fields."""
    return {
        "email": TO,
        "timestamp": 1795435140,
        "event": kind,
        "sg_event_id": str(new_message_id()),
        "sg_message_id": "14c5d75ce93.recvd-5f",
        "comms_message": mark or marked(new_message_id()),
        **more,
    }


def said(*events: object) -> list[Receipt]:
    body = bytes_of(events)
    return [one for one in parser().parse(signed(body), body, URL) if isinstance(one, Receipt)]


def test_each_event_finds_its_message() -> None:
    ids = [new_message_id() for _ in range(3)]
    found = said(*(event("delivered", marked(id_), response="250 OK") for id_ in ids))
    assert [one.message_id for one in found] == ids
    assert all(one.delivered and one.suppress is None for one in found)
    assert found[0].occurred_at == datetime(2026, 11, 23, 11, 59, tzinfo=UTC)
    assert found[0].response.provider_message_id == "14c5d75ce93"


def test_an_event_that_comes_twice_in_a_request_counts_once() -> None:
    twice = event("delivered")
    assert len(said(twice, twice, event("delivered"))) == 2


@pytest.mark.parametrize(
    ("kind", "more", "reason", "suppress"),
    [
        ("bounce", {"type": "bounce"}, Reason.INVALID_RECIPIENT, SuppressionReason.HARD_BOUNCE),
        ("bounce", {"type": "blocked"}, Reason.UNDELIVERED, None),
        ("bounce", {}, Reason.UNDELIVERED, None),
        (
            "dropped",
            {"reason": "Bounced Address"},
            Reason.INVALID_RECIPIENT,
            SuppressionReason.HARD_BOUNCE,
        ),
        ("dropped", {"reason": "Unsubscribed Address"}, Reason.SUPPRESSED, "opt_out"),
        ("dropped", {"reason": "Spam Reporting Address"}, Reason.SUPPRESSED, "complaint"),
        ("dropped", {"reason": "Of tomorrow"}, Reason.UNDELIVERED, None),
    ],
)
def test_a_failure_says_why(
    kind: str, more: dict[str, str], reason: Reason, suppress: str | None
) -> None:
    (found,) = said(event(kind, **more))
    assert not found.delivered
    assert (found.reason, found.suppress) == (reason, suppress)


@pytest.mark.parametrize(
    ("kind", "suppress"),
    [("spamreport", SuppressionReason.COMPLAINT), ("unsubscribe", SuppressionReason.OPT_OUT)],
)
def test_who_complains_or_unsubscribes_has_it_and_wants_no_more(
    kind: str, suppress: SuppressionReason
) -> None:
    (found,) = said(event(kind))
    assert (found.delivered, found.suppress) == (True, suppress)


@pytest.mark.parametrize("kind", ["processed", "deferred", "open", "click", "group_unsubscribe"])
def test_what_is_on_its_way_or_looked_at_is_no_receipt(kind: str) -> None:
    assert said(event(kind)) == []


def test_copies_and_mails_of_others_are_none_of_ours() -> None:
    mark = marked(new_message_id(), copies=True)
    assert said(event("bounce", mark, type="bounce", email="copy@example.com")) == []
    assert len(said(event("bounce", mark, type="bounce"))) == 1
    assert said(event("delivered", "of another program"), {"event": "delivered"}) == []


def test_the_vector_of_sendgrids_library() -> None:
    key = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw"
        "+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
    )
    headers = {
        SIGNATURE: "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG"
        "+luQAbPIqHh89M15TluLtEZtM=",
        TIMESTAMP: "1600112502",
    }
    body = (
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
        b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
        b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
        b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",'
        b'"timestamp":1600112492}]\r\n'
    )
    theirs = parser(key, now=datetime.fromtimestamp(1600112502, UTC))
    assert theirs.parse(headers, body, URL) == []  # it is theirs, and no mail of ours
    for wrong in (body.strip(), body.replace(b"hello", b"hullo")):
        with pytest.raises(BadSignatureError):
            theirs.parse(headers, wrong, URL)
    with pytest.raises(BadSignatureError):
        parser(key).parse(headers, body, URL)  # years later


@pytest.mark.parametrize("name", [SIGNATURE, TIMESTAMP])
@pytest.mark.parametrize("value", [None, "", "x", "AAAA", "1600112502", "é", "9" * 5000])
def test_without_its_headers_nothing_is_read(name: str, value: str | None) -> None:
    body = bytes_of([event("delivered")])
    headers = {**signed(body), name: value or ""}
    if value is None:
        del headers[name]
    with pytest.raises(BadSignatureError):
        parser().parse(headers, body, URL)


def test_what_was_signed_otherwise_is_refused() -> None:
    body = bytes_of([event("delivered")])
    good = signed(body)
    assert len(parser().parse(good, body, URL)) == 1
    flipped = bytes((*body[:-1], body[-1] ^ 1))
    other = ec.generate_private_key(ec.SECP256R1())
    later = str(int(good[TIMESTAMP]) + 1)
    for headers, changed in (
        (good, flipped),
        (signed(body, key=other), body),
        ({**good, TIMESTAMP: later}, body),
        (signed(body, at=NOW - timedelta(seconds=301)), body),
        (signed(body, at=NOW + timedelta(seconds=301)), body),
    ):
        with pytest.raises(BadSignatureError):
            parser().parse(headers, changed, URL)


@pytest.mark.parametrize("part", ["nothing", "body", "time", "signature", "key"])
def test_sendgrids_own_library_takes_what_is_taken_and_refuses_what_is_refused(part: str) -> None:
    """But for the age of a signature, which theirs does not look at."""
    body = bytes_of([event("delivered", response="250 À bientôt 🐟")])
    headers, key = signed(body), spki(KEY)
    match part:
        case "body":
            body = body.replace(b"250", b"251")
        case "time":
            headers[TIMESTAMP] = str(int(headers[TIMESTAMP]) + 1)
        case "signature":
            raw = bytearray(base64.b64decode(headers[SIGNATURE]))
            raw[-1] ^= 1
            headers[SIGNATURE] = base64.b64encode(raw).decode()
        case "key":
            key = spki(ec.generate_private_key(ec.SECP256R1()))
    theirs = EventWebhook(key).verify_signature(
        body.decode(), headers[SIGNATURE], headers[TIMESTAMP]
    )
    try:
        ours = bool(parser(key).parse(headers, body, URL))
    except BadSignatureError:
        ours = False
    assert (ours, theirs) == (part == "nothing",) * 2


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff"])
def test_what_is_signed_and_no_array_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableReceiptError):
        parser().parse(signed(body), body, URL)


@pytest.mark.parametrize(
    "key", ["no key", spki(rsa.generate_private_key(65537, 2048))], ids=["text", "RSA"]
)
def test_receipts_need_a_verification_key(key: str) -> None:
    with pytest.raises(NotSetUpError, match="webhook_public_key_env"):
        parser(key).parse({}, b"", "")
