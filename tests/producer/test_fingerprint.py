"""The hash of a request: it must be the same in every release, or old keys would conflict."""

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


def test_hashes_are_the_same_as_in_the_first_release() -> None:
    assert body_hash(SMS).hex() == (
        "d645bd038ed3cb53368eef15833150ef24d9ce79e446c474384dae4cbd6df166"
    )
    assert body_hash(PUSH).hex() == (
        "fd672c4edcba6bb72e547fea0672a5845fc6b32fec67281b20c039ec75dbfd2c"
    )


def test_a_badge_of_zero_differs_from_no_badge() -> None:
    assert body_hash(PUSH) != body_hash(replace(PUSH, badge=None))


def test_bypass_suppression_changes_the_hash() -> None:
    assert body_hash(replace(SMS, bypass_suppression=True)) != body_hash(SMS)


def test_the_mode_changes_the_hash() -> None:
    assert body_hash(replace(SMS, mode=Mode.SIMULATED)) != body_hash(SMS)


def test_an_inline_image_differs_from_a_file() -> None:
    image = Attachment(filename="logo.png", content_type="image/png", content=b"1")
    as_file, inline = (
        EmailMessage(
            id=UUID(int=1),
            tenant="acme",
            created_at=SMS.created_at,
            to="ann@example.com",
            subject="Hi",
            attachments=(attachment,),
        )
        for attachment in (image, replace(image, content_id="logo"))
    )
    assert body_hash(as_file) != body_hash(inline)
