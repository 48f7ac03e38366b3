"""The hash of what was asked: the same in every release, or old keys would conflict."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from producer.fingerprint import body_hash
from schemas.messages import Attachment, EmailMessage, PushMessage, SmsMessage
from schemas.vocabulary import Mode

SMS = SmsMessage(
    id=UUID(int=1),
    tenant="acme",
    created_at=datetime(2030, 1, 31, 9, tzinfo=UTC),
    to="+12025550100",
    body="hello",
)
PUSH = PushMessage(
    id=UUID(int=1),
    tenant="acme",
    created_at=datetime(2030, 1, 31, 9, tzinfo=UTC),
    title="Hi",
    body="hello",
    tokens=("simulator:delivered",),
    badge=0,
)


def test_hashes_are_those_of_the_first_release() -> None:
    assert body_hash(SMS).hex() == (
        "d645bd038ed3cb53368eef15833150ef24d9ce79e446c474384dae4cbd6df166"
    )
    assert body_hash(PUSH).hex() == (
        "fd672c4edcba6bb72e547fea0672a5845fc6b32fec67281b20c039ec75dbfd2c"
    )


def test_a_badge_of_none_is_not_a_badge_that_was_left_out() -> None:
    assert body_hash(PUSH) != body_hash(replace(PUSH, badge=None))


def test_a_wish_to_bypass_suppression_is_part_of_what_was_asked() -> None:
    assert body_hash(replace(SMS, bypass_suppression=True)) != body_hash(SMS)


def test_a_message_that_is_not_meant_to_arrive_is_another_one() -> None:
    assert body_hash(replace(SMS, mode=Mode.SIMULATED)) != body_hash(SMS)


def test_an_image_in_its_place_is_not_the_same_as_a_file() -> None:
    image = Attachment(filename="logo.png", content_type="image/png", content=b"1")
    as_file, in_place = (
        EmailMessage(
            id=UUID(int=1),
            tenant="acme",
            created_at=SMS.created_at,
            to="ann@example.com",
            subject="Hi",
            attachments=(one,),
        )
        for one in (image, replace(image, content_id="logo"))
    )
    assert body_hash(as_file) != body_hash(in_place)
