"""E-mail by Amazon SES: the contract, and its requests."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest

from comms.platform.settings import SettingsError
from schemas.messages import EmailMessage
from schemas.vocabulary import Channel, Reason
from tests.consumers.contract.http_suite import Dialogue, NamingContract, Reply, Stub
from tests.consumers.contract.suite import Subject, call
from tests.consumers.email.mails import (
    FILE,
    FROM,
    LOGO,
    ONE_CLICK,
    TO,
    full_mail,
    header,
    recipient,
    shown_mail,
)

TABLE = {"name": "ses", "from": FROM, "region": "eu-west-1", "configuration_set": "receipts"}
ARN = "arn:aws:sns:eu-west-1:123456789012:receipts"
UNVERIFIED = "Email address is not verified. The following identities failed the check in region "


def error(status: int, name: str, said: str = "As documented") -> Reply:
    """An error as SES writes it."""
    return Reply(status, json.dumps({"message": said}), {"x-amzn-ErrorType": name})


class TestSes(NamingContract):
    dialogue = Dialogue(
        channel=Channel.EMAIL,
        table=TABLE,
        environment={"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "the key itself"},
        accepted=lambda n: Reply(200, json.dumps({"MessageId": f"0102018{n:012}-000000"})),
        refused=error(400, "BadRequestException", "Missing final '@domain'"),
        transient=error(500, "InternalFailure"),
        errors={
            "a wrong request": (error(400, "BadRequestException"), "refused invalid_content"),
            "rejected": (error(400, "MessageRejected"), "refused rejected"),
            "our sender": (
                error(400, "MessageRejected", f"{UNVERIFIED}EU-WEST-1: news@acme.example"),
                "blocked",
            ),
            "our domain": (error(400, "MailFromDomainNotVerifiedException"), "blocked"),
            "not allowed": (error(403, "AccessDeniedException"), "blocked"),
            "suspended": (error(400, "AccountSuspendedException"), "blocked"),
            "paused": (error(400, "SendingPausedException"), "blocked"),
            "no such set": (error(404, "NotFoundException"), "blocked"),
            "a wrong key": (error(403, "UnrecognizedClientException"), "blocked"),
            "a wrong signature": (
                error(403, "InvalidSignatureException:http://internal.amazon.com/x/"),
                "blocked",
            ),
            "named in the body": (
                Reply(400, '{"__type": "com.amazonaws.ses#AccountSuspendedException"}'),
                "blocked",
            ),
            "too many at once": (
                error(429, "TooManyRequestsException", "Maximum sending rate exceeded."),
                "later rate_limited",
            ),
            "too many today": (
                error(429, "TooManyRequestsException", "Daily message quota exceeded."),
                "blocked",
            ),
            "trouble": (error(503, "ServiceUnavailable"), "later provider_error"),
            "a name of tomorrow": (error(400, "OfTomorrowException"), "refused rejected"),
        },
        needs="AWS_SECRET_ACCESS_KEY",
        recipient=recipient,
    )

    async def test_the_request_is_ses(self, subject: Subject, stub: Stub) -> None:
        made = full_mail()
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path) == ("POST", "/v2/email/outbound-emails")
        day = datetime.now(UTC).strftime("%Y%m%d")
        signature = header(asked.headers, "authorization") or ""
        assert f"Credential=AKIDEXAMPLE/{day}/eu-west-1/ses/aws4_request" in signature
        value = json.loads(asked.body)
        mail = message_from_bytes(
            base64.b64decode(value.pop("Content")["Raw"]["Data"]), policy=default
        )
        assert mail["From"] == "Team <team@acme.example>"
        assert mail["Bcc"] is None
        assert [one.get_content() for one in mail.iter_attachments()] == [FILE.content]
        (tag,) = value.pop("EmailTags")
        assert tag["Name"] == "comms_message"
        assert tag["Value"].startswith(f"{made.id}_")
        assert value == {
            "Destination": {
                "ToAddresses": [TO],
                "BccAddresses": [
                    "bo@example.com",
                    "PERSON@example.com",
                    "eve@xn--bcher-kva.example",
                ],
            },
            "ConfigurationSetName": "receipts",
        }

    async def test_an_image_is_inside_and_a_click_unsubscribes(
        self, subject: Subject, stub: Stub
    ) -> None:
        await call(subject.provider, shown_mail())
        raw = json.loads(stub.requests[-1].body)["Content"]["Raw"]["Data"]
        mail = message_from_bytes(base64.b64decode(raw), policy=default)
        assert {name: mail[name] for name in ONE_CLICK} == ONE_CLICK
        (image,) = (part for part in mail.walk() if part["Content-ID"] == "<logo>")
        assert image.get_content() == LOGO.content

    async def test_who_is_not_verified_is_told_apart(self, subject: Subject, stub: Stub) -> None:
        made = stub.message(error(400, "MessageRejected", f"{UNVERIFIED}EU-WEST-1: {recipient(1)}"))
        outcome = await call(subject.provider, made)
        assert getattr(outcome, "reason", None) is Reason.REJECTED
        made = stub.message(error(400, "BadRequestException", "Illegal address"))
        assert isinstance(made, EmailMessage)
        outcome = await call(subject.provider, replace(made, bcc=("copy@example.com",)))
        assert getattr(outcome, "reason", None) is Reason.INVALID_CONTENT

    async def test_the_probe_reads_the_account(self, subject: Subject, stub: Stub) -> None:
        assert await subject.provider.probe() is None
        assert (stub.requests[-1].method, stub.requests[-1].path) == ("GET", "/v2/email/account")
        assert header(stub.requests[-1].headers, "authorization")


def test_a_region_that_is_none_is_told() -> None:
    wrong = replace(TestSes.dialogue, table={**TABLE, "region": "evil.example/"})
    with pytest.raises(SettingsError, match="region"):
        wrong.provider("http://127.0.0.1:1")
