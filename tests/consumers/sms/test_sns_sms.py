"""Texts by Amazon SNS: the contract, and its signed forms.

That Amazon's own way of signing is met is held to published vectors in `test_sigv4`, and to moto,
which signs by Amazon's library, in `tests.counterparts`.
"""

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from comms.platform.settings import SettingsError
from consumers.registry import receipt_parsers
from consumers.sdk.outcomes import Accepted
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel
from tests.consumers.contract.http_suite import Dialogue, HttpContract, Reply, Stub, describe
from tests.consumers.contract.samples import message, only_provider, settings_with
from tests.consumers.contract.suite import Subject, call

TABLE = {"name": "sns", "region": "eu-west-1", "from": "Acme"}
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI"}
NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"


def taken(number: int) -> Reply:
    """An answer as SNS writes it."""
    found = f"<MessageId>567910cd-659e-55d4-8ccb-{number:012}</MessageId>"
    more = "<ResponseMetadata><RequestId>d74b8436</RequestId></ResponseMetadata>"
    result = f"<PublishResult>\n    {found}\n  </PublishResult>"
    return Reply(200, f'<PublishResponse xmlns="{NAMESPACE}">\n  {result}{more}</PublishResponse>')


def error(code: str, said: str = "As documented", *, status: int = 400) -> Reply:
    """An error as SNS writes it."""
    kind = "Sender" if status < 500 else "Receiver"
    inner = f"<Type>{kind}</Type>\n    <Code>{code}</Code>\n    <Message>{said}</Message>"
    text = f"<Error>\n    {inner}\n  </Error><RequestId>9dd0</RequestId>"
    return Reply(status, f'<ErrorResponse xmlns="{NAMESPACE}">\n  {text}</ErrorResponse>')


def invalid(said: str) -> Reply:
    return error("InvalidParameter", f"Invalid parameter: {said}")


def sms() -> SmsMessage:
    made = message(Channel.SMS, "+12025550142")
    assert isinstance(made, SmsMessage)
    return made


class TestSnsSms(HttpContract):
    dialogue = Dialogue(
        channel=Channel.SMS,
        table=TABLE,
        environment=ENVIRONMENT,
        accepted=taken,
        refused=invalid("PhoneNumber Reason: +1202 is not valid to publish to"),
        transient=error("InternalError", status=500),
        errors={
            "too long": (invalid("Message too long"), "refused invalid_content"),
            "no text": (invalid("Empty message"), "refused invalid_content"),
            "something else": (invalid("MessageAttributes"), "refused rejected"),
            "wrong in another way": (error("ValidationException"), "refused rejected"),
            "no permission": (error("AuthorizationError", status=403), "blocked"),
            "a wrong key": (error("InvalidClientTokenId", status=403), "blocked"),
            "a wrong signature": (error("SignatureDoesNotMatch", status=403), "blocked"),
            "a clock that is wrong": (error("RequestExpired"), "blocked"),
            "too many at once": (error("Throttling", "Rate exceeded"), "later rate_limited"),
            "too many, by its status": (error("Throttled", status=429), "later rate_limited"),
            "away": (error("ServiceUnavailable", status=503), "later provider_error"),
            "a code of tomorrow": (error("NovelError"), "refused rejected"),
        },
        needs="AWS_SECRET_ACCESS_KEY",
    )

    async def test_the_request_is_snss(self, subject: Subject, stub: Stub) -> None:
        made = replace(sms(), body="Fish & chips = 5 € + tip")
        await call(subject.provider, made)
        asked = stub.requests[-1]
        assert (asked.method, asked.path, asked.query) == ("POST", "/", "")
        headers = {name.lower(): value for name, value in asked.headers.items()}
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        day = headers["x-amz-date"][:8]
        scope = f"Credential=AKIDEXAMPLE/{day}/eu-west-1/sns/aws4_request"
        signed = "SignedHeaders=content-type;host;x-amz-date"
        assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 {scope}, {signed}, ")
        assert parse_qsl(asked.body.decode()) == [
            ("Action", "Publish"),
            ("Version", "2010-03-31"),
            ("PhoneNumber", made.to),
            ("Message", made.body),
            ("MessageAttributes.entry.1.Name", "AWS.SNS.SMS.SMSType"),
            ("MessageAttributes.entry.1.Value.DataType", "String"),
            ("MessageAttributes.entry.1.Value.StringValue", "Transactional"),
            ("MessageAttributes.entry.2.Name", "AWS.SNS.SMS.SenderID"),
            ("MessageAttributes.entry.2.Value.DataType", "String"),
            ("MessageAttributes.entry.2.Value.StringValue", "Acme"),
        ]

    async def test_a_number_that_sends_is_named_as_one(self, subject: Subject, stub: Stub) -> None:
        await call(subject.provider, replace(sms(), sender="+15005550007"))
        fields = dict(parse_qsl(stub.requests[-1].body.decode()))
        assert fields["MessageAttributes.entry.2.Name"] == "AWS.MM.SMS.OriginationNumber"
        assert fields["MessageAttributes.entry.2.Value.StringValue"] == "+15005550007"

    async def test_the_answer_is_read_out_of_its_xml(self, subject: Subject, stub: Stub) -> None:
        outcome = await call(subject.provider, stub.message(taken(7)))
        assert isinstance(outcome, Accepted)
        assert outcome.response.provider_message_id == "567910cd-659e-55d4-8ccb-000000000007"
        refused = await call(
            subject.provider, stub.message(invalid("PhoneNumber Reason: &quot;x&quot; &amp; y"))
        )
        assert refused.response.code == "InvalidParameter PhoneNumber"
        assert refused.response.detail == 'Invalid parameter: PhoneNumber Reason: "x" & y'

    async def test_the_probe_asks_and_sends_nothing(self, subject: Subject, stub: Stub) -> None:
        assert await subject.provider.probe() is None
        fields = dict(parse_qsl(stub.requests[-1].body.decode()))
        assert fields == {"Action": "GetSMSAttributes", "Version": "2010-03-31"}


async def test_a_probe_tells_a_wrong_key() -> None:
    wrong = error("InvalidClientTokenId", status=403)
    dialogue = replace(TestSnsSms.dialogue, probe=wrong)
    stub = Stub(dialogue)
    await stub.start()
    provider = dialogue.provider(stub.url)
    await provider.open()
    assert await provider.probe() == "the provider refuses the account (403)"
    assert describe(await call(provider, stub.message(wrong))) == "blocked"
    await provider.close()
    await stub.stop()


@pytest.mark.parametrize(
    ("more", "key"),
    [({"region": "Ireland"}, "region"), ({"message_type": "TRANSACTIONAL"}, "message_type")],
    ids=str,
)
def test_a_wrong_option_is_named(more: dict[str, str], key: str) -> None:
    settings = settings_with(Channel.SMS, {**TABLE, **more}, environment=ENVIRONMENT)
    with pytest.raises(SettingsError) as caught:
        only_provider(settings, Channel.SMS)
    assert caught.value.key == f"sms.providers[sns].{key}"


def test_it_sends_no_receipts() -> None:
    settings = settings_with(Channel.SMS, TABLE, environment=ENVIRONMENT)
    assert (Channel.SMS, "sns") not in receipt_parsers(settings)
