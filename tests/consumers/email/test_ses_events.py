"""What Amazon SES tells of its mails, in signed notifications of an SNS topic."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from consumers.email.ses import CODES, SesReceipts
from consumers.registry import receipt_parsers
from consumers.sdk.error_codes import Classifier
from consumers.sdk.receipts import BadSignatureError, NotSetUpError, Receipt, UnreadableReceiptError
from consumers.vendors import sns
from schemas.ids import new_message_id
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.samples import closed_port, settings_with, until
from tests.consumers.email.mails import (
    NOW,
    TO,
    bytes_of,
    marked,
)

TABLE = {"name": "ses", "from": "Acme <hello@example.com>", "region": "eu-west-1"}
ARN = "arn:aws:sns:eu-west-1:123456789012:receipts"
HOST = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-{'0a' * 16}.pem"

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
    assert (found.response.provider_message_id, found.response.detail) == (
        "EXAMPLE7c191be45",
        "250 ok",
    )


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


def test_receipts_need_a_topic() -> None:
    settings = settings_with(Channel.EMAIL, TABLE)
    with pytest.raises(NotSetUpError, match="topic_arn"):
        receipt_parsers(settings)[Channel.EMAIL, "ses"].parse({}, b"", "")
    for wrong in ({"topic_arn": "receipts"}, {"topic_arn": ARN.replace("sns", "sqs")}):
        parsers = receipt_parsers(settings_with(Channel.EMAIL, {**TABLE, **wrong}))
        with pytest.raises(NotSetUpError, match="topic_arn: must be the ARN"):
            parsers[Channel.EMAIL, "ses"].parse({}, b"", "")


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
