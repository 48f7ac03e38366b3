"""E-mail by Mailgun: the contract, its requests, and its webhooks with their tokens."""

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

import pytest

from comms.platform.clock import Clock
from consumers.email.mailgun import MailgunReceipts
from consumers.registry import receipt_parsers
from consumers.sdk.receipts import BadSignatureError, Receipt, UnreadableReceiptError
from schemas.ids import new_message_id
from schemas.messages import EmailMessage
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.http_suite import Dialogue, NamingContract, Recorded, Reply, Stub
from tests.consumers.contract.samples import settings_with
from tests.consumers.contract.suite import Subject, call
from tests.consumers.email.mails import (
    FILE,
    FROM,
    LOGO,
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

KEY = "the signing key"
NO_TO = "'to' parameter is not a valid address. please check documentation"
URL = "https://comms.example.com/receipts/email/mailgun"


def error(status: int, said: str = "As documented") -> Reply:
    """An error as Mailgun writes it."""
    return Reply(status, json.dumps({"message": said}))


def form(asked: Recorded) -> Message:
    """A multipart form, read by the standard library."""
    kind = header(asked.headers, "content-type") or ""
    return message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + asked.body)


def fields(asked: Recorded) -> dict[str, bytes]:
    found = {}
    for part in form(asked).get_payload():
        assert isinstance(part, Message)
        name = part.get_param("name", header="content-disposition")
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload(0)
            assert isinstance(inner, Message)
            found[str(name)] = inner.as_bytes()
        else:
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            found[str(name)] = content
    return found


class TestMailgun(NamingContract):
    dialogue = Dialogue(
        channel=Channel.EMAIL,
        table={"name": "mailgun", "from": FROM, "domain": "mg.acme.example"},
        environment={"MAILGUN_API_KEY": "the api key"},
        accepted=lambda n: Reply(
            200, json.dumps({"id": f"<{n}@mg.acme.example>", "message": "Queued. Thank you."})
        ),
        refused=error(400, NO_TO),
        transient=error(500),
        errors={
            "an address": (error(400, "to parameter is missing"), "refused invalid_recipient"),
            "our sender": (error(400, NO_TO.replace("to", "from", 1)), "blocked"),
            "no content": (
                error(400, "Need at least one of 'text' or 'html' parameters specified"),
                "refused invalid_content",
            ),
            "too large": (error(413), "refused invalid_content"),
            "a wrong key": (Reply(401, "Forbidden"), "blocked"),
            "not paid": (error(402), "blocked"),
            "not allowed": (error(403), "blocked"),
            "no such domain": (error(404, "Domain not found: mg.acme.example"), "blocked"),
            "too many at once": (error(429), "later rate_limited"),
            "trouble": (error(503), "later provider_error"),
        },
        needs="MAILGUN_API_KEY",
        recipient=recipient,
    )

    async def test_the_request_is_mailguns(self, subject: Subject, stub: Stub) -> None:
        made = full_mail()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v3/mg.acme.example/messages.mime")
        assert header(asked.headers, "authorization") == "Basic YXBpOnRoZSBhcGkga2V5"
        found = fields(asked)
        assert set(found) == {"to", "v:comms_message", "message"}
        everybody = (TO, "bo@example.com", "PERSON@example.com", "eve@xn--bcher-kva.example")
        assert found["to"] == ", ".join(everybody).encode()
        assert found["v:comms_message"].startswith(f"{made.id}_".encode())
        mail = message_from_bytes(found["message"], policy=default)
        assert mail["From"] == "Team <team@acme.example>"
        assert mail["Message-ID"] == f"<{made.id}@acme.example>"
        assert mail["Bcc"] is None
        assert [one.get_content() for one in mail.iter_attachments()] == [FILE.content]

    async def test_an_image_is_inside_and_a_click_unsubscribes(
        self, subject: Subject, stub: Stub
    ) -> None:
        await call(subject.provider, shown_mail())
        found = fields(stub.requests[-1])
        mail = message_from_bytes(found["message"], policy=default)
        assert {name: mail[name] for name in ONE_CLICK} == ONE_CLICK
        (image,) = (part for part in mail.walk() if part["Content-ID"] == "<logo>")
        assert image.get_content() == LOGO.content

    async def test_the_mail_goes_as_it_is_whatever_it_holds(
        self, subject: Subject, stub: Stub
    ) -> None:
        text = "--\r\n--x\r\nContent-Disposition: form-data; name=to\r\n\r\neve@evil.example\r\n"
        made = full_mail(text=text, cc=(), bcc=())
        await call(subject.provider, made)
        found = fields(stub.requests[-1])
        assert set(found) == {"to", "v:comms_message", "message"}
        assert found["to"] == TO.encode()

    async def test_with_copies_nobody_is_blamed_for_a_wrong_address(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(error(400, NO_TO))
        assert isinstance(made, EmailMessage)
        outcome = await call(subject.provider, replace(made, cc=("copy@example.com",)))
        assert getattr(outcome, "reason", None) is Reason.INVALID_CONTENT

    @pytest.mark.parametrize(
        ("reply", "known"),
        [
            (error(400, "from parameter is missing"), True),
            (Reply(401, "Forbidden"), False),
            (error(404), False),
        ],
    )
    async def test_a_good_key_is_told_what_is_missing(
        self, stub: Stub, reply: Reply, known: bool
    ) -> None:
        await stub.stop()
        stub = Stub(replace(self.dialogue, probe=reply))
        await stub.start()
        provider = self.dialogue.provider(stub.url)
        await provider.open()
        assert (await provider.probe() is None) is known
        assert stub.requests[-1].body == b""
        await provider.close()
        await stub.stop()


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def parser(clock: Clock = lambda: NOW) -> MailgunReceipts:
    settings = settings_with(
        Channel.EMAIL,
        {"name": "mailgun", "from": FROM, "domain": "mg.acme.example"},
        environment={"MAILGUN_WEBHOOK_SIGNING_KEY": KEY},
    )
    found = receipt_parsers(settings, clock)[Channel.EMAIL, "mailgun"]
    assert isinstance(found, MailgunReceipts)
    return found


def signature(token: str = "t" * 50, at: datetime = NOW, key: str = KEY) -> dict[str, str]:
    """What Mailgun's documentation says how to make: HMAC-SHA256 of the time and the token."""
    stamp = str(int(at.timestamp()))
    mac = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256)
    return {"timestamp": stamp, "token": token, "signature": mac.hexdigest()}


def event(kind: str, mark: str | None = None, **more: Any) -> dict[str, Any]:
    """An event as Mailgun writes it."""
    return {
        "event": kind,
        "timestamp": 1795435140.5,
        "recipient": TO,
        "message": {"headers": {"to": f"Person <{TO}>", "message-id": "1@mg.acme.example"}},
        "user-variables": {"comms_message": mark or marked(new_message_id())},
        **more,
    }


def request(data: object, signed: object = None) -> bytes:
    return bytes_of({"signature": signature() if signed is None else signed, "event-data": data})


def said(data: dict[str, Any]) -> list[Receipt]:
    return list(parser().parse({}, request(data), URL))


def test_a_delivery_finds_its_message() -> None:
    id_ = new_message_id()
    status = {"code": 250, "message": "OK"}
    (found,) = said(event("delivered", marked(id_), **{"delivery-status": status}))
    assert (found.message_id, found.delivered, found.suppress) == (id_, True, None)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, 0, 500000, tzinfo=UTC)
    assert (found.response.provider_message_id, found.response.detail) == (
        "1@mg.acme.example",
        "OK",
    )


@pytest.mark.parametrize(
    ("failure", "reason", "suppress"),
    [
        ("bounce", Reason.INVALID_RECIPIENT, SuppressionReason.HARD_BOUNCE),
        ("suppress-bounce", Reason.SUPPRESSED, SuppressionReason.HARD_BOUNCE),
        ("suppress-complaint", Reason.SUPPRESSED, SuppressionReason.COMPLAINT),
        ("suppress-unsubscribe", Reason.SUPPRESSED, SuppressionReason.OPT_OUT),
        ("generic", Reason.UNDELIVERED, None),
        ("of tomorrow", Reason.UNDELIVERED, None),
    ],
)
def test_a_failure_says_why(
    failure: str, reason: Reason, suppress: SuppressionReason | None
) -> None:
    (found,) = said(event("failed", severity="permanent", reason=failure))
    assert not found.delivered
    assert (found.reason, found.suppress) == (reason, suppress)


def test_the_last_try_is_the_last_though_it_is_called_temporary() -> None:
    assert said(event("failed", severity="temporary", reason="generic")) == []
    (found,) = said(event("failed", severity="temporary", reason="old"))
    assert (found.delivered, found.reason) == (False, Reason.UNDELIVERED)


def test_what_mailgun_rejects_names_no_recipient() -> None:
    mark = marked(new_message_id(), copies=True)
    (found,) = said(event("rejected", mark, recipient=None, reject={"reason": "Sandbox"}))
    assert (found.delivered, found.response.detail) == (False, "Sandbox")


@pytest.mark.parametrize(
    ("kind", "suppress"),
    [("complained", SuppressionReason.COMPLAINT), ("unsubscribed", SuppressionReason.OPT_OUT)],
)
def test_who_complains_or_unsubscribes_has_it_and_wants_no_more(
    kind: str, suppress: SuppressionReason
) -> None:
    (found,) = said(event(kind))
    assert (found.delivered, found.suppress) == (True, suppress)


@pytest.mark.parametrize("kind", ["accepted", "opened", "clicked", "stored"])
def test_what_is_on_its_way_or_looked_at_is_no_receipt(kind: str) -> None:
    assert said(event(kind)) == []


def test_copies_and_mails_of_others_are_none_of_ours() -> None:
    mark = marked(new_message_id(), copies=True)
    assert said(event("failed", mark, severity="permanent", recipient="copy@example.com")) == []
    assert said({**event("delivered"), "user-variables": {}}) == []
    assert said({**event("delivered"), "user-variables": None}) == []


@pytest.mark.parametrize(
    "signed",
    [
        {},
        "",
        signature(key="another"),
        signature(at=NOW - timedelta(seconds=301)),
        signature(at=NOW + timedelta(seconds=301)),
        {**signature(), "token": "u" * 50},
        {**signature(), "timestamp": str(int(NOW.timestamp()) + 1)},
        {**signature(), "timestamp": "now"},
        {**signature(), "signature": signature()["signature"][:-1]},
        {**signature(), "signature": None},
        {name: value for name, value in signature().items() if name != "token"},
        {**signature(), "timestamp": "9" * 5000},
        {**signature(), "token": ["t" * 50]},
    ],
    ids=range(13),
)
def test_what_mailgun_did_not_sign_is_refused(signed: object) -> None:
    with pytest.raises(BadSignatureError):
        parser().parse({}, request(event("delivered"), signed), URL)


@pytest.mark.parametrize("field", ["timestamp", "token", "signature"])
def test_what_cannot_be_text_is_refused(field: str) -> None:
    body = json.dumps({"signature": {**signature(), field: "\ud800"}, "event-data": {}}).encode()
    with pytest.raises(BadSignatureError):
        parser().parse({}, body, URL)


def test_a_token_is_good_for_one_body_and_its_repetitions() -> None:
    theirs = parser()
    body = request(event("delivered"))
    assert theirs.parse({}, body, URL) == theirs.parse({}, body, URL)
    with pytest.raises(BadSignatureError, match="token"):
        theirs.parse({}, request(event("failed", severity="permanent")), URL)
    other = request(event("complained"), signature(token="another"))
    assert len(theirs.parse({}, other, URL)) == 1


def test_a_token_is_kept_for_as_long_as_its_time_is_good() -> None:
    clock = Hands()
    theirs = parser(clock)
    ahead = signature(at=NOW + timedelta(seconds=300))
    theirs.parse({}, request(event("delivered"), ahead), URL)
    clock.now = NOW + timedelta(seconds=600)
    with pytest.raises(BadSignatureError, match="token"):
        theirs.parse({}, request(event("complained"), ahead), URL)
    clock.now = NOW + timedelta(seconds=601)
    with pytest.raises(BadSignatureError, match="too long ago"):
        theirs.parse({}, request(event("complained"), ahead), URL)


def test_what_is_signed_and_no_event_is_unreadable() -> None:
    with pytest.raises(UnreadableReceiptError):
        parser().parse({}, request("delivered"), URL)
    for body in (b"", b"[]", b"\xff"):
        with pytest.raises(BadSignatureError):
            parser().parse({}, body, URL)
