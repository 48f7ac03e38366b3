"""Hypothesis strategies for every record that the contract allows."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from schemas.codec import Record
from schemas.events import StatusEvent
from schemas.messages import (
    Attachment,
    EmailMessage,
    PushMessage,
    SmsMessage,
    VoiceMessage,
    WebPushSubscription,
)
from schemas.vocabulary import Channel, Mode, OnDoubt, Platform, Priority, Reason, Status

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
maps = st.dictionaries(texts, texts, max_size=3)
times = st.datetimes(
    min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
integers = st.integers(-(2**31), 2**31 - 1)


def _optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


ENVELOPE: dict[str, st.SearchStrategy[Any]] = {
    "id": st.uuids(),
    "tenant": texts,
    "created_at": times,
    "customer_id": _optional(texts),
    "workflow": _optional(texts),
    "priority": st.sampled_from(Priority),
    "send_at": _optional(times),
    "expires_at": _optional(times),
    "on_doubt": _optional(st.sampled_from(OnDoubt)),
    "metadata": maps,
    "traceparent": _optional(texts),
    "bypass_suppression": st.booleans(),
    "mode": st.sampled_from(Mode),
}
attachments = st.builds(
    Attachment,
    filename=texts,
    content_type=texts,
    content=st.binary(max_size=64),
    content_id=_optional(texts),
)
subscriptions = st.builds(WebPushSubscription, endpoint=texts, p256dh=texts, auth=texts)
sms = st.builds(SmsMessage, **ENVELOPE, to=texts, body=texts, sender=_optional(texts))
emails = st.builds(
    EmailMessage,
    **ENVELOPE,
    to=texts,
    subject=texts,
    text=_optional(texts),
    html=_optional(texts),
    cc=st.lists(texts, max_size=3).map(tuple),
    bcc=st.lists(texts, max_size=3).map(tuple),
    reply_to=_optional(texts),
    sender=_optional(texts),
    attachments=st.lists(attachments, max_size=2).map(tuple),
    headers=maps,
    unsubscribe_url=_optional(texts),
)
pushes = st.builds(
    PushMessage,
    **ENVELOPE,
    title=texts,
    body=texts,
    tokens=st.lists(texts, max_size=3).map(tuple),
    subscription=_optional(subscriptions),
    platform=_optional(st.sampled_from(Platform)),
    data=maps,
    badge=_optional(integers),
    collapse_key=_optional(texts),
    ttl=_optional(integers),
)
calls = st.builds(
    VoiceMessage,
    **ENVELOPE,
    to=texts,
    text=_optional(texts),
    audio_url=_optional(texts),
    language=_optional(texts),
    voice=_optional(texts),
    repeat=integers,
    sender=_optional(texts),
)
events = st.builds(
    StatusEvent,
    id=st.uuids(),
    message_id=st.uuids(),
    tenant=texts,
    channel=st.sampled_from(Channel),
    status=st.sampled_from(Status),
    reason=st.sampled_from(Reason),
    attempt=integers,
    provider=_optional(texts),
    provider_message_id=_optional(texts),
    code=_optional(texts),
    detail=_optional(texts),
    response=_optional(texts),
    occurred_at=times,
    recipient=_optional(texts),
    customer_id=_optional(texts),
    workflow=_optional(texts),
    priority=_optional(st.sampled_from(Priority)),
    created_at=_optional(times),
    send_at=_optional(times),
    expires_at=_optional(times),
    metadata=maps,
    traceparent=_optional(texts),
    mode=_optional(st.sampled_from(Mode)),
)
records: st.SearchStrategy[Record] = st.one_of(sms, emails, pushes, calls, events)

SMS = SmsMessage(
    id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    tenant="acme",
    created_at=datetime(2030, 1, 31, 9, tzinfo=UTC),
    to="+12025550100",
    body="Hi",
)
