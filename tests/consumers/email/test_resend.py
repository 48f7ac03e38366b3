"""E-mail by Resend: the contract, its requests, and its events signed by Svix's own library."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from comms.platform.clock import utc_now
from comms.platform.settings import Secret
from consumers.email.resend import CODES, ResendReceipts
from consumers.registry import receipt_parsers
from consumers.sdk.error_codes import Classifier
from consumers.sdk.provider import Attempt
from consumers.sdk.receipts import BadSignatureError, NotSetUpError, Receipt, UnreadableReceiptError
from schemas.ids import new_message_id
from schemas.messages import EmailMessage
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.http_suite import Dialogue, NamingContract, Reply, Stub
from tests.consumers.contract.samples import email, settings_with
from tests.consumers.contract.suite import Subject, call
from tests.consumers.email.mails import (
    FILE_IN_BASE64,
    FROM,
    LOGO_IN_BASE64,
    ONE_CLICK,
    TO,
    bytes_of,
    full_mail,
    header,
    marked,
    recipient,
    shown_mail,
)

KEY, SECRET = "re_the_key", "whsec_" + base64.b64encode(b"what Svix and we share").decode()
NO_TO = "Invalid `to` field. The email address needs to follow the `email@example.com` format."


def error(status: int, name: str, said: str = "As documented", **headers: str) -> Reply:
    """An error as Resend writes it."""
    return Reply(status, json.dumps({"statusCode": status, "name": name, "message": said}), headers)


class TestResend(NamingContract):
    dialogue = Dialogue(
        channel=Channel.EMAIL,
        table={"name": "resend", "from": FROM},
        environment={"RESEND_API_KEY": KEY},
        accepted=lambda n: Reply(200, json.dumps({"id": f"49a3999c-0ce1-4ea6-ab68-{n:012}"})),
        refused=error(422, "validation_error", NO_TO),
        transient=error(500, "application_error"),
        errors={
            "a wrong field": (error(422, "validation_error"), "refused invalid_content"),
            "nothing in it": (error(422, "missing_required_field"), "refused invalid_content"),
            "an attachment": (error(422, "invalid_attachment"), "refused invalid_content"),
            "security": (error(451, "security_error"), "refused rejected"),
            "a domain of nobody": (error(403, "validation_error"), "blocked"),
            "our sender": (
                error(422, "validation_error", "Invalid `from` field. As documented"),
                "blocked",
            ),
            "no key": (error(401, "missing_api_key"), "blocked"),
            "a key for other things": (error(401, "restricted_api_key"), "blocked"),
            "a wrong key": (error(403, "invalid_api_key"), "blocked"),
            "no such place": (error(404, "not_found"), "blocked"),
            "too many today": (error(429, "daily_quota_exceeded"), "blocked"),
            "too many this month": (error(429, "monthly_quota_exceeded"), "blocked"),
            "too many at once": (
                error(429, "rate_limit_exceeded", **{"Retry-After": "2"}),
                "later rate_limited 2",
            ),
            "internal": (error(500, "internal_server_error"), "later provider_error"),
            "the call before": (
                error(409, "concurrent_idempotent_requests"),
                "later provider_error",
            ),
            "another body under the key": (
                error(409, "invalid_idempotent_request"),
                "ambiguous",
            ),
            "a name of tomorrow": (error(422, "of_tomorrow"), "refused rejected"),
        },
        needs="RESEND_API_KEY",
        recipient=recipient,
    )

    async def test_the_request_is_resends(self, subject: Subject, stub: Stub) -> None:
        made = full_mail()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/emails")
        assert header(asked.headers, "authorization") == f"Bearer {KEY}"
        value = json.loads(asked.body)
        (tag,) = value.pop("tags")
        assert tag["name"] == "comms_message"
        assert tag["value"].startswith(f"{made.id}_")
        assert value == {
            "from": "Team <team@acme.example>",
            "to": [f"Pérson <{TO}>"],
            "subject": "Grüße",
            "text": "Hello",
            "html": "<p>Hello</p>",
            "cc": ['"Bo, Jr" <bo@example.com>'],
            "bcc": ["eve@xn--bcher-kva.example"],
            "reply_to": "Desk <desk@acme.example>",
            "headers": {"X-Campaign": "autumn"},
            "attachments": [
                {
                    "filename": "été.pdf",
                    "content": FILE_IN_BASE64,
                    "content_type": "application/pdf",
                }
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
                "filename": "logo.png",
                "content": LOGO_IN_BASE64,
                "content_type": "image/png",
                "content_id": "logo",
            }
        ]

    async def test_repetitions_have_one_key_and_a_persons_wish_has_another(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = email(TO)
        for attempt in (Attempt(made.id, 1), Attempt(made.id, 2), Attempt(made.id, 3, 3)):
            await subject.provider.send(made, attempt)
        first, repeated, wished = stub.requests[-3:]
        keys = [header(one.headers, "idempotency-key") for one in (first, repeated, wished)]
        assert keys[0] == keys[1] != keys[2]
        assert None not in keys
        assert first.body == repeated.body

    async def test_a_messages_own_sender_is_not_the_accounts_fault(
        self, subject: Subject, stub: Stub
    ) -> None:
        made = stub.message(error(403, "validation_error", "The domain is not verified."))
        assert isinstance(made, EmailMessage)
        outcome = await call(subject.provider, replace(made, sender="a@elsewhere.example"))
        assert getattr(outcome, "reason", None) is Reason.INVALID_CONTENT

    async def test_what_cannot_be_written_is_refused_without_a_call(
        self, subject: Subject, stub: Stub
    ) -> None:
        for wrong in ({"Bcc": TO}, {"X-A": "one\r\nBcc: two"}, {"Content-Type": "text/html"}):
            outcome = await call(subject.provider, email(TO, headers=wrong))
            assert getattr(outcome, "reason", None) is Reason.INVALID_CONTENT
        assert stub.requests == []

    @pytest.mark.parametrize(
        ("name", "known"), [("restricted_api_key", True), ("missing_api_key", False)]
    )
    async def test_a_key_that_only_sends_is_a_good_one(
        self, stub: Stub, name: str, known: bool
    ) -> None:
        await stub.stop()
        stub = Stub(replace(self.dialogue, probe=error(401, name)))
        await stub.start()
        provider = self.dialogue.provider(stub.url)
        await provider.open()
        assert (await provider.probe() is None) is known
        assert stub.requests[-1].path == "/domains"
        await provider.close()
        await stub.stop()


def event(kind: str, tags: object, **more: Any) -> dict[str, Any]:
    """An event as Resend writes it."""
    data = {"email_id": "56761188", "to": [TO], "subject": "Hello", "tags": tags, **more}
    return {"type": f"email.{kind}", "created_at": "2026-11-23T11:59:00.126Z", "data": data}


def signed(body: bytes, *, at: datetime | None = None, secret: str = SECRET) -> dict[str, str]:
    """The headers, by Svix's own library."""
    at = at or utc_now()
    signature = Webhook(secret).sign("msg_1", at, body.decode())
    stamp = str(int(at.timestamp()))
    return {"svix-id": "msg_1", "svix-timestamp": stamp, "svix-signature": signature}


def parse(headers: dict[str, str], body: bytes) -> list[Receipt]:
    classifier = Classifier(CODES, channel=Channel.EMAIL, provider="resend")
    return list(
        ResendReceipts(Secret(SECRET), classifier=classifier, clock=utc_now).parse(
            headers, body, "https://comms.example.com/receipts/email/resend"
        )
    )


def said(value: object) -> list[Receipt]:
    body = bytes_of(value)
    return parse(signed(body), body)


@pytest.mark.parametrize(
    "tags",
    [lambda mark: {"comms_message": mark}, lambda mark: [{"name": "comms_message", "value": mark}]],
    ids=["as an object", "as a list"],
)
def test_a_receipt_finds_its_message_by_the_tag(tags: Any) -> None:
    id_ = new_message_id()
    (found,) = said(event("delivered", tags(marked(id_))))
    assert (found.message_id, found.delivered, found.suppress) == (id_, True, None)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, 0, 126000, tzinfo=UTC)
    assert found.response.provider_message_id == "56761188"


@pytest.mark.parametrize(
    ("kind", "more", "reason", "suppress"),
    [
        (
            "bounced",
            {"bounce": {"type": "Permanent", "subType": "General", "message": "Nobody here"}},
            Reason.INVALID_RECIPIENT,
            SuppressionReason.HARD_BOUNCE,
        ),
        ("bounced", {"bounce": {"type": "Transient"}}, Reason.UNDELIVERED, None),
        ("bounced", {"bounce": {"type": "Undetermined"}}, Reason.UNDELIVERED, None),
        ("bounced", {}, Reason.UNDELIVERED, None),
        ("failed", {"failed": {"reason": "reached_daily_quota"}}, Reason.UNDELIVERED, None),
        ("suppressed", {}, Reason.SUPPRESSED, SuppressionReason.HARD_BOUNCE),
    ],
)
def test_a_failure_says_why(
    kind: str, more: dict[str, Any], reason: Reason, suppress: SuppressionReason | None
) -> None:
    (found,) = said(event(kind, {"comms_message": marked(new_message_id())}, **more))
    assert not found.delivered
    assert (found.reason, found.suppress) == (reason, suppress)


def test_who_complains_has_it_and_wants_no_more() -> None:
    (found,) = said(event("complained", {"comms_message": marked(new_message_id())}))
    assert (found.delivered, found.suppress) == (True, SuppressionReason.COMPLAINT)


@pytest.mark.parametrize("kind", ["sent", "scheduled", "delivery_delayed", "opened", "clicked"])
def test_what_is_on_its_way_or_looked_at_is_no_receipt(kind: str) -> None:
    assert said(event(kind, {"comms_message": marked(new_message_id())})) == []


def test_an_event_that_may_be_about_a_copy_is_none_of_ours() -> None:
    mark = marked(new_message_id(), copies=True)
    assert said(event("bounced", {"comms_message": mark}, bounce={"type": "Permanent"})) == []
    assert said(event("bounced", {"category": "of another program"})) == []
    assert said(event("bounced", None)) == []


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"type": "email.sent"}', b'{"data": {}}', b"<"])
def test_what_is_signed_and_no_event_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableReceiptError):
        parse(signed(body), body)


def accepted_by_svix(headers: dict[str, str], body: bytes) -> bool:
    theirs = {name.replace("svix", "webhook"): value for name, value in headers.items()}
    try:
        Webhook(SECRET).verify(body, theirs, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def changed(headers: dict[str, str], body: bytes) -> dict[str, tuple[dict[str, str], bytes]]:
    """What Svix did not sign so, by what is wrong with it."""
    old, early = utc_now() - timedelta(seconds=310), utc_now() + timedelta(seconds=310)
    signature = headers["svix-signature"]
    flipped = bytes((body[0] ^ 1, *body[1:]))
    return {
        "body": (headers, flipped),
        "id": ({**headers, "svix-id": "msg_2"}, body),
        "time": ({**headers, "svix-timestamp": str(int(headers["svix-timestamp"]) - 1)}, body),
        "no time": ({**headers, "svix-timestamp": "now"}, body),
        "a time without end": ({**headers, "svix-timestamp": "9" * 5000}, body),
        "old": (signed(body, at=old), body),
        "of tomorrow": (signed(body, at=early), body),
        "version": ({**headers, "svix-signature": signature.replace("v1,", "v2,")}, body),
        "secret": (signed(body, secret="whsec_" + base64.b64encode(b"x").decode()), body),
        **{
            f"without {name}": ({k: v for k, v in headers.items() if k != name}, body)
            for name in headers
        },
    }


def test_ours_and_svix_take_and_refuse_the_same() -> None:
    body = bytes_of(event("delivered", {"comms_message": marked(new_message_id())}))
    headers = signed(body)
    both = {**headers, "svix-signature": f"v1,AAAA v1a,x {headers['svix-signature']}"}
    for good in (headers, both):
        assert accepted_by_svix(good, body)
        assert len(parse(good, body)) == 1
    for what, (wrong, wrong_body) in changed(headers, body).items():
        assert not accepted_by_svix(wrong, wrong_body), what
        with pytest.raises(BadSignatureError):
            parse(wrong, wrong_body)


def test_a_secret_that_cannot_sign_is_reported_without_its_text() -> None:
    table = {"name": "resend", "from": FROM}
    settings = settings_with(
        Channel.EMAIL, table, environment={"RESEND_WEBHOOK_SECRET": "no secret at all"}
    )
    with pytest.raises(NotSetUpError, match="whsec_") as caught:
        receipt_parsers(settings)[Channel.EMAIL, "resend"].parse({}, b"", "")
    assert "no secret" not in str(caught.value)
