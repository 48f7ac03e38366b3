"""E-mail by Postmark: the contract, its requests, and its webhooks with what proves them."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.registry import receipt_parsers
from consumers.sdk.outcomes import Accepted, Refused
from consumers.sdk.receipts import BadSignatureError, Receipt, ReceiptParser, UnreadableReceiptError
from schemas.ids import new_message_id
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.http_suite import Dialogue, NamingContract, Reply, Stub
from tests.consumers.contract.samples import email, settings_with
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

TOKEN, SECRET = "the server token", "what stands in the address"
BASIC = "Basic " + base64.b64encode(f"postmark:{SECRET}".encode()).decode()
INACTIVE = (
    "You tried to send to a recipient that has been marked as inactive. Found inactive addresses: "
    "person@example.com. Inactive recipients are ones that have generated a hard bounce, a spam "
    "complaint, or a manual suppression."
)


def error(code: int, said: str = "As documented", *, status: int = 422, **headers: str) -> Reply:
    """An error as Postmark writes it."""
    return Reply(status, json.dumps({"ErrorCode": code, "Message": said}), headers)


def taken(said: str = "OK") -> Reply:
    value = {"To": TO, "MessageID": "0a129aee", "ErrorCode": 0, "Message": said}
    return Reply(200, json.dumps(value))


def but_not_to(*addresses: str) -> Reply:
    """A mail that is taken, with inactive recipients."""
    return taken(
        f"Message OK, but will not deliver to these inactive addresses: {', '.join(addresses)}. "
        "Inactive recipients are ones that have generated a hard bounce or a spam complaint."
    )


class TestPostmark(NamingContract):
    dialogue = Dialogue(
        channel=Channel.EMAIL,
        table={"name": "postmark", "from": FROM},
        environment={"POSTMARK_SERVER_TOKEN": TOKEN},
        accepted=lambda n: Reply(
            200, json.dumps({"MessageID": f"m{n}", "ErrorCode": 0, "Message": "OK"})
        ),
        refused=error(300, "Invalid 'To' address: 'a b@example.com'."),
        transient=error(100, status=503),
        errors={
            "an address": (
                error(300, "Error parsing 'To': Illegal email domain 'x' in address 'a@x'."),
                "refused invalid_recipient",
            ),
            "a copy's address": (
                error(300, "Invalid 'Cc' address: 'x'."),
                "refused invalid_content",
            ),
            "our sender's address": (error(300, "Invalid 'From' address: 'x'."), "blocked"),
            "no content": (
                error(300, "Provide either TextBody or HtmlBody"),
                "refused invalid_content",
            ),
            "inactive": (error(406, INACTIVE), "refused suppressed hard_bounce"),
            "inactive, though 200": (
                error(406, INACTIVE, status=200),
                "refused suppressed hard_bounce",
            ),
            "an attachment": (error(411), "refused invalid_content"),
            "no JSON": (error(402), "refused invalid_content"),
            "no signature": (error(400), "blocked"),
            "a signature to be confirmed": (error(401), "blocked"),
            "a wrong token": (error(10, status=401), "blocked"),
            "no credit": (error(405), "blocked"),
            "not approved": (error(412), "blocked"),
            "may not send": (error(413), "blocked"),
            "a wall before it": (Reply(403, "<html>Forbidden</html>"), "blocked"),
            "too many at once": (
                error(429, status=429, **{"Retry-After": "3"}),
                "later rate_limited 3",
            ),
            "maintenance, though 200": (error(100, status=200), "later provider_error"),
            "internal": (Reply(500, "{}"), "later provider_error"),
            "a code of tomorrow": (error(4999), "refused rejected"),
        },
        needs="POSTMARK_SERVER_TOKEN",
        recipient=recipient,
    )

    async def test_the_request_is_postmarks(self, subject: Subject, stub: Stub) -> None:
        made = full_mail()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/email")
        assert header(asked.headers, "x-postmark-server-token") == TOKEN
        value = json.loads(asked.body)
        mark = value.pop("Metadata")["comms_message"]
        assert mark.startswith(f"{made.id}_")
        assert len(mark) <= 80
        assert value == {
            "From": "Team <team@acme.example>",
            "To": f"Pérson <{TO}>",
            "Subject": "Grüße",
            "TextBody": "Hello",
            "HtmlBody": "<p>Hello</p>",
            "Cc": '"Bo, Jr" <bo@example.com>',
            "Bcc": "eve@xn--bcher-kva.example",
            "ReplyTo": "Desk <desk@acme.example>",
            "Headers": [{"Name": "X-Campaign", "Value": "autumn"}],
            "MessageStream": "outbound",
            "Attachments": [
                {"Name": "été.pdf", "Content": FILE_IN_BASE64, "ContentType": "application/pdf"}
            ],
        }

    async def test_an_image_is_inside_and_a_click_unsubscribes(
        self, subject: Subject, stub: Stub
    ) -> None:
        await call(subject.provider, shown_mail())
        value = json.loads(stub.requests[-1].body)
        assert {one["Name"]: one["Value"] for one in value["Headers"]} == ONE_CLICK
        assert value["Attachments"] == [
            {
                "Name": "logo.png",
                "Content": LOGO_IN_BASE64,
                "ContentType": "image/png",
                "ContentID": "cid:logo",
            }
        ]

    async def test_copies_may_be_refused_apart_and_to_decides(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(but_not_to("bo@example.com", "eve@example.com"))
        outcome = await call(subject.provider, made)
        assert isinstance(outcome, Accepted)
        assert outcome.response.detail == "2 of the recipients inactive"
        made = stub.message(but_not_to("bo@example.com", recipient(2)))
        outcome = await call(subject.provider, made)
        assert isinstance(outcome, Refused)
        assert (outcome.reason, outcome.suppress) == (
            Reason.SUPPRESSED,
            SuppressionReason.HARD_BOUNCE,
        )
        assert recipient(2) not in (outcome.response.detail or "")

    async def test_the_probe_reads_the_server(self, subject: Subject, stub: Stub) -> None:
        assert await subject.provider.probe() is None
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("GET", "/server")
        assert header(asked.headers, "x-postmark-server-token") == TOKEN


def parser(**table: str) -> ReceiptParser:
    settings = settings_with(
        Channel.EMAIL,
        {"name": "postmark", "from": FROM, **table},
        environment={"POSTMARK_WEBHOOK_SECRET": SECRET},
    )
    return receipt_parsers(settings, lambda: NOW)[Channel.EMAIL, "postmark"]


def event(kind: str, mark: str | None = None, **more: Any) -> dict[str, Any]:
    """An event as Postmark writes it."""
    metadata = {"comms_message": mark or marked(new_message_id())}
    return {"RecordType": kind, "MessageID": "0a129aee", "Metadata": metadata, **more}


def said(value: object) -> list[Receipt]:
    found = parser().parse({"authorization": BASIC}, bytes_of(value), "https://x.example")
    return [one for one in found if isinstance(one, Receipt)]


def test_a_delivery_finds_its_message() -> None:
    id_ = new_message_id()
    (found,) = said(
        event("Delivery", marked(id_), Recipient=TO, DeliveredAt="2026-11-23T06:59:00-05:00")
    )
    assert (found.message_id, found.delivered, found.suppress) == (id_, True, None)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, tzinfo=UTC)
    assert found.response.provider_message_id == "0a129aee"


@pytest.mark.parametrize(
    ("kind", "reason", "suppress"),
    [
        ("HardBounce", Reason.INVALID_RECIPIENT, SuppressionReason.HARD_BOUNCE),
        ("BadEmailAddress", Reason.INVALID_RECIPIENT, SuppressionReason.HARD_BOUNCE),
        ("ManuallyDeactivated", Reason.SUPPRESSED, SuppressionReason.HARD_BOUNCE),
        ("SoftBounce", Reason.UNDELIVERED, None),
        ("Blocked", Reason.UNDELIVERED, None),
        ("DMARCPolicy", Reason.UNDELIVERED, None),
        ("OfTomorrow", Reason.UNDELIVERED, None),
    ],
)
def test_a_bounce_says_why(kind: str, reason: Reason, suppress: SuppressionReason | None) -> None:
    (found,) = said(event("Bounce", Type=kind, Email=TO, BouncedAt="2026-11-23T11:59:00Z"))
    assert not found.delivered
    assert (found.reason, found.suppress, found.response.code) == (reason, suppress, kind)


@pytest.mark.parametrize("kind", ["Transient", "DnsError", "AutoResponder", "AddressChange"])
def test_what_is_on_its_way_or_a_machines_answer_is_no_bounce(kind: str) -> None:
    assert said(event("Bounce", Type=kind, Email=TO)) == []


def test_who_complains_or_unsubscribes_has_it_and_wants_no_more() -> None:
    (found,) = said(event("SpamComplaint", Type="SpamComplaint", Email=TO))
    assert (found.delivered, found.suppress) == (True, SuppressionReason.COMPLAINT)
    left: dict[str, Any] = {"SuppressSending": True, "SuppressionReason": "ManualSuppression"}
    (found,) = said(event("SubscriptionChange", Recipient=TO, Origin="Recipient", **left))
    assert (found.delivered, found.suppress) == (True, SuppressionReason.OPT_OUT)


@pytest.mark.parametrize(
    "change",
    [
        {"SuppressSending": False, "SuppressionReason": None, "Origin": "Recipient"},
        {"SuppressSending": True, "SuppressionReason": "HardBounce", "Origin": "Recipient"},
        {"SuppressSending": True, "SuppressionReason": "ManualSuppression", "Origin": "Customer"},
    ],
    ids=str,
)
def test_other_changes_of_a_subscription_are_no_receipts(change: dict[str, Any]) -> None:
    assert said(event("SubscriptionChange", Recipient=TO, **change)) == []


@pytest.mark.parametrize("kind", ["Open", "Click", "Inbound"])
def test_what_people_do_with_it_is_no_receipt(kind: str) -> None:
    assert said(event(kind, Recipient=TO)) == []


def test_a_copys_bounce_is_not_the_messages() -> None:
    mark = marked(new_message_id(), copies=True)
    assert said(event("Bounce", mark, Type="HardBounce", Email="copy@example.com")) == []
    assert len(said(event("Bounce", mark, Type="HardBounce", Email=TO.upper()))) == 1


def test_mails_of_others_are_none_of_ours() -> None:
    assert said({**event("Delivery", Recipient=TO), "Metadata": {"user": "7"}}) == []
    assert said({**event("Delivery", Recipient=TO), "Metadata": None}) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": BASIC[:-1]},
        {"authorization": BASIC.replace("Basic", "Bearer")},
        {"authorization": SECRET},
        {"x-secret": SECRET},
    ],
    ids=range(6),
)
def test_without_the_secret_nothing_is_read(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignatureError):
        parser().parse(headers, bytes_of(event("Delivery", Recipient=TO)), "https://x.example")


def test_a_header_may_hold_the_secret_in_place_of_basic() -> None:
    body = bytes_of(event("Delivery", Recipient=TO))
    theirs = parser(webhook_header="X-Secret")
    assert len(theirs.parse({"x-secret": SECRET}, body, "https://x.example")) == 1
    for headers in ({"x-secret": "another"}, {"authorization": BASIC}):
        with pytest.raises(BadSignatureError):
            theirs.parse(headers, body, "https://x.example")


def test_what_is_no_event_is_unreadable() -> None:
    for body in (b"", b"[]", b"{}", b"\xff"):
        with pytest.raises(UnreadableReceiptError):
            parser().parse({"authorization": BASIC}, body, "https://x.example")


def test_a_plain_mail_has_only_what_it_needs() -> None:
    assert "_" not in marked(email(TO).id)
