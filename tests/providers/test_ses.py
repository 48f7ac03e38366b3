"""E-mail by Amazon SES: the contract, its requests, and its events in notifications of SNS."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from comms.settings import SettingsError
from consumers.classification import Classifier
from consumers.email.ses import CODES, SesReceipts
from consumers.providers import receipt_parsers
from consumers.suppression import SuppressionReason
from consumers.vendors import sns
from consumers.webhook import BadSignatureError, NotSetUpError, Receipt, UnreadableReceiptError
from schemas.ids import new_message_id
from schemas.messages import EmailMessage
from schemas.vocabulary import Channel, Reason
from tests.providers.contract import Subject, call
from tests.providers.http_contract import Dialogue, NamingContract, Reply, Stub
from tests.providers.mails import (
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
from tests.providers.samples import closed_port, settings_with, until

TABLE = {"name": "ses", "from": FROM, "region": "eu-west-1", "configuration_set": "receipts"}
ARN = "arn:aws:sns:eu-west-1:123456789012:receipts"
HOST = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-{'0a' * 16}.pem"
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


KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=365))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class Amazon:
    """What stands at Amazon's addresses, and a record of what was read there."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.has = {CERTIFICATE: certificate(KEY)}

    def fetch(self, url: str) -> bytes:
        self.read.append(url)
        if url not in self.has:
            raise OSError("404")
        return self.has[url]


def parser(amazon: Amazon, *, now: datetime = NOW) -> SesReceipts:
    classifier = Classifier(CODES, channel=Channel.EMAIL, provider="ses")
    topic = sns.Topic(ARN, fetch=amazon.fetch)
    return SesReceipts(topic, classifier=classifier, clock=lambda: now)


async def primed(amazon: Amazon | None = None, *, now: datetime = NOW) -> SesReceipts:
    """A parser that has the certificate."""
    made, body = parser(amazon or Amazon(), now=now), signed(notification("{}", at=now))
    await until(lambda: not waits(made, body))
    return made


def waits(parser: SesReceipts, body: bytes) -> bool:
    """Whether a request must be made again, as its certificate is not here yet."""
    try:
        parser.parse({}, body, "")
    except NotSetUpError:
        return True
    except UnreadableReceiptError:
        return False
    return False


def notification(message: str, *, at: datetime = NOW, **more: Any) -> dict[str, Any]:
    """A notification as SNS writes it, not yet signed."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": ARN,
        "Message": message,
        "Timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": f"{HOST}/?Action=Unsubscribe",
        **more,
    }


def confirmation(url: str) -> dict[str, Any]:
    """A request to confirm a subscription."""
    more: dict[str, Any] = {
        "Type": "SubscriptionConfirmation",
        "Token": "2336412f37",
        "SubscribeURL": url,
    }
    return notification("You have chosen to subscribe …", **more)


def signed(said: dict[str, Any], *, key: rsa.RSAPrivateKey = KEY) -> bytes:
    """The same, signed as SNS's documentation says."""
    if said["Type"] == "Notification":
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    else:
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{said[name]}\n" for name in names if name in said)
    first = said["SignatureVersion"] == "1"
    digest = hashes.SHA1() if first else hashes.SHA256()  # noqa: S303 - SNS's own first version
    signature = key.sign(text.encode(), padding.PKCS1v15(), digest)
    return bytes_of({**said, "Signature": base64.b64encode(signature).decode()})


def event(kind: str, mark: str | None = None, **more: Any) -> dict[str, Any]:
    """An event as SES publishes it."""
    tags = {"comms_message": [mark or marked(new_message_id())], "ses:operation": ["SendEmail"]}
    return {
        "eventType": kind,
        "mail": {"messageId": "EXAMPLE7c191be45", "destination": [TO], "tags": tags},
        **more,
    }


async def said(value: dict[str, Any]) -> list[Receipt]:
    body = signed(notification(json.dumps(value)))
    return list((await primed()).parse({}, body, ""))


def bounce(type_: str, *recipients: str) -> dict[str, Any]:
    return {
        "bounce": {
            "bounceType": type_,
            "bounceSubType": "General",
            "bouncedRecipients": [{"emailAddress": one} for one in recipients or (TO,)],
            "timestamp": "2026-11-23T11:59:00.000Z",
        }
    }


async def test_a_delivery_finds_its_message() -> None:
    id_ = new_message_id()
    delivery = {
        "recipients": [TO],
        "timestamp": "2026-11-23T11:59:00.000Z",
        "smtpResponse": "250 ok",
    }
    (found,) = await said(event("Delivery", marked(id_), delivery=delivery))
    assert (found.message_id, found.delivered, found.suppress) == (id_, True, None)
    assert found.occurred_at == datetime(2026, 11, 23, 11, 59, tzinfo=UTC)
    assert (found.words.provider_message_id, found.words.detail) == ("EXAMPLE7c191be45", "250 ok")


@pytest.mark.parametrize(
    ("kind", "more", "reason", "suppress"),
    [
        ("Bounce", bounce("Permanent"), Reason.INVALID_RECIPIENT, SuppressionReason.HARD_BOUNCE),
        ("Bounce", bounce("Transient"), Reason.UNDELIVERED, None),
        ("Bounce", bounce("Undetermined"), Reason.UNDELIVERED, None),
        ("Reject", {"reject": {"reason": "Bad content"}}, Reason.INVALID_CONTENT, None),
        ("Rendering Failure", {"failure": {}}, Reason.INVALID_CONTENT, None),
        (
            "Complaint",
            {"complaint": {"complaintSubType": "OnAccountSuppressionList"}},
            Reason.SUPPRESSED,
            SuppressionReason.COMPLAINT,
        ),
    ],
)
async def test_a_failure_says_why(
    kind: str, more: dict[str, Any], reason: Reason, suppress: SuppressionReason | None
) -> None:
    (found,) = await said(event(kind, **more))
    assert not found.delivered
    assert (found.reason, found.suppress) == (reason, suppress)


async def test_who_complains_has_it_and_wants_no_more() -> None:
    complaint = {"complainedRecipients": [{"emailAddress": TO}], "complaintSubType": None}
    (found,) = await said(event("Complaint", complaint=complaint))
    assert (found.delivered, found.suppress) == (True, SuppressionReason.COMPLAINT)


async def test_an_identity_tells_the_same_under_another_name() -> None:
    value = event("Bounce", **bounce("Permanent"))
    value["notificationType"] = value.pop("eventType")
    assert len(await said(value)) == 1


@pytest.mark.parametrize("kind", ["Send", "DeliveryDelay", "Open", "Click", "Subscription"])
async def test_what_is_on_its_way_or_looked_at_is_no_receipt(kind: str) -> None:
    assert await said(event(kind)) == []


async def test_a_copys_bounce_is_not_the_messages() -> None:
    mark = marked(new_message_id(), copies=True)
    assert await said(event("Bounce", mark, **bounce("Permanent", "copy@example.com"))) == []
    both = bounce("Permanent", "copy@example.com", TO)
    assert len(await said(event("Bounce", mark, **both))) == 1
    alone = event("Bounce", **bounce("Permanent", TO, TO))
    assert len(await said(alone)) == 1
    assert await said({**event("Bounce"), "mail": {"tags": {}, "destination": [TO]}}) == []


async def test_a_certificate_is_fetched_once_and_what_comes_before_comes_again() -> None:
    amazon = Amazon()
    made, body = parser(amazon), signed(notification(json.dumps(event("Delivery"))))
    with pytest.raises(NotSetUpError):
        made.parse({}, body, "")
    await until(lambda: not waits(made, body))
    assert len(made.parse({}, body, "")) == 1
    assert amazon.read == [CERTIFICATE]


@pytest.mark.parametrize("version", ["1", "2"])
async def test_both_versions_and_a_subject_are_signed_for(version: str) -> None:
    text = json.dumps(event("Delivery"))
    more: dict[str, Any] = {
        "SignatureVersion": version,
        "Subject": "Amazon SES Email Event Notification",
    }
    theirs = await primed()
    body = signed(notification(text, **more))
    assert len(theirs.parse({}, body, "")) == 1
    with pytest.raises(BadSignatureError):
        theirs.parse({}, body.replace(b"Event Notification", b"event notification"), "")


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda value: {key: kept for key, kept in value.items() if key != name}


def with_(**more: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda value: {**value, **more}


@pytest.mark.parametrize(
    "change",
    [
        *(without(name) for name in ("Signature", "Timestamp", "SigningCertURL", "Message")),
        *(without(name) for name in ("SignatureVersion", "MessageId", "TopicArn", "Type")),
        with_(Message=json.dumps(event("Complaint"))),
        with_(Timestamp="2026-11-23T12:00:01.000Z"),
        with_(MessageId="another"),
        with_(Subject="added"),
        with_(Signature="AAAA"),
        with_(Signature="no base64!"),
        with_(SignatureVersion="1"),
        with_(SignatureVersion="3"),
        with_(Type="UnsubscribeConfirmation"),
        with_(SignatureVersion=["2"]),
        with_(SigningCertURL="https://["),
        with_(SigningCertURL=["x"]),
        with_(Timestamp=7),
    ],
    ids=range(21),
)
async def test_what_was_not_signed_so_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    theirs = await primed()
    body = signed(notification(json.dumps(event("Delivery"))))
    assert len(theirs.parse({}, body, "")) == 1
    with pytest.raises(BadSignatureError):
        theirs.parse({}, bytes_of(change(json.loads(body))), "")


async def test_others_keys_topics_and_times_are_refused() -> None:
    theirs, text = await primed(), json.dumps(event("Delivery"))
    for body in (
        signed(notification(text), key=OTHER),
        signed(notification(text, TopicArn=f"{ARN}-2")),
        signed(notification(text, at=NOW - timedelta(hours=25))),
        signed(notification(text, at=NOW + timedelta(hours=25))),
        json.dumps({**json.loads(signed(notification(text))), "Message": "\ud800"}).encode(),
        b"",
        b"[]",
        b"\xff",
    ):
        with pytest.raises(BadSignatureError):
            theirs.parse({}, body, "")


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE.replace("https", "http"),
        CERTIFICATE.replace("eu-west-1", "us-east-1"),
        CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.example"),
        CERTIFICATE.replace("sns.", "evil.example/sns."),
        CERTIFICATE.replace("https://", "https://sns.eu-west-1.amazonaws.com@evil.example/"),
        CERTIFICATE.replace("sns.eu-west-1", "mybucket.s3"),
        CERTIFICATE.replace(".com/", ".com:8443/"),
        CERTIFICATE.replace("/Simple", "/mine/../Simple"),
        f"{CERTIFICATE}?x=1",
        f"{HOST}/?Action=GetCertificate.pem",
        "",
    ],
    ids=range(11),
)
async def test_no_certificate_is_read_from_elsewhere(url: str) -> None:
    amazon = Amazon()
    amazon.has[url] = certificate(OTHER)
    theirs = await primed(amazon)
    with pytest.raises(BadSignatureError):
        theirs.parse({}, signed(notification("{}", SigningCertURL=url), key=OTHER), "")
    assert amazon.read == [CERTIFICATE]


async def test_a_subscription_is_confirmed_at_amazons_address_only() -> None:
    amazon = Amazon()
    url = f"{HOST}/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37"
    amazon.has[url] = b"<ConfirmSubscriptionResponse/>"
    theirs = await primed(amazon)
    assert theirs.parse({}, signed(confirmation(url)), "") == []
    await until(lambda: amazon.read == [CERTIFICATE, url])
    for wrong in (url.replace("sns.", "sns.evil."), url.replace("https", "http")):
        with pytest.raises(BadSignatureError):
            theirs.parse({}, signed(confirmation(wrong)), "")
    with pytest.raises(BadSignatureError):
        theirs.parse({}, signed(confirmation(url), key=OTHER), "")
    assert amazon.read == [CERTIFICATE, url]


async def test_what_is_signed_and_no_event_is_unreadable() -> None:
    theirs = await primed()
    body = signed(notification("Successfully validated SNS topic for Amazon SES event publishing."))
    with pytest.raises(UnreadableReceiptError):
        theirs.parse({}, body, "")


def test_without_a_topic_nothing_is_proved_and_a_wrong_one_is_told() -> None:
    settings = settings_with(Channel.EMAIL, TABLE)
    with pytest.raises(NotSetUpError, match="topic_arn"):
        receipt_parsers(settings)[Channel.EMAIL, "ses"].parse({}, b"", "")
    for wrong in ({"topic_arn": "receipts"}, {"topic_arn": ARN.replace("sns", "sqs")}):
        with pytest.raises(SettingsError, match="topic_arn"):
            receipt_parsers(settings_with(Channel.EMAIL, {**TABLE, **wrong}))


def test_a_region_that_is_none_is_told() -> None:
    wrong = replace(TestSes.dialogue, table={**TABLE, "region": "evil.example/"})
    with pytest.raises(SettingsError, match="region"):
        wrong.provider("http://127.0.0.1:1")


async def test_what_is_fetched_is_cut_and_no_redirect_is_followed() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/elsewhere":
            return web.Response(status=302, headers={"Location": "/long"})
        return web.Response(body=b"x" * 100_000)

    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = closed_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    url = f"http://127.0.0.1:{port}"
    assert await asyncio.to_thread(sns.fetch, f"{url}/long") == b"x" * 65_536
    with pytest.raises(OSError, match="302"):
        await asyncio.to_thread(sns.fetch, f"{url}/elsewhere")
    await runner.cleanup()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(sns.fetch, url)
