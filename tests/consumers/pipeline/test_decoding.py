"""Records from the front door are held to the same rules, including the installation's own."""

from consumers.ledger.delivery import Delivery, Lease
from consumers.pipeline.decoding import Decoder, RejectedRecord
from schemas.rules import Policy
from schemas.vocabulary import Channel, Reason
from tests.consumers.harness import CODEC, sms

POLICY = Policy(countries=frozenset({"US"}), parts=2)


def read(policy: Policy, **changes: object) -> Delivery | RejectedRecord:
    message = sms(**changes)  # type: ignore[arg-type]
    value = CODEC.encode(message, topic="comms.sms")
    return Decoder(Channel.SMS, CODEC, policy).read(value, Lease(message.id))


def test_a_number_of_another_country_is_an_invalid_recipient() -> None:
    assert isinstance(read(POLICY), Delivery)
    decoded = read(POLICY, to="+4915112345678")
    assert isinstance(decoded, RejectedRecord)
    assert decoded.reason is Reason.INVALID_RECIPIENT
    assert decoded.detail == "to: is in a country that this service does not send to"
    assert isinstance(read(Policy(), to="+4915112345678"), Delivery)


def test_a_text_of_more_parts_than_allowed_is_invalid_content() -> None:
    decoded = read(POLICY, body="a" * 307)
    assert isinstance(decoded, RejectedRecord)
    assert decoded.reason is Reason.INVALID_CONTENT
    assert "3 segments" in decoded.detail
