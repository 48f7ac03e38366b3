"""Any record the contract allows, for tests by properties: strategies of Hypothesis."""

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

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
maps = st.dictionaries(words, words, max_size=3)
instants = st.datetimes(
    min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
whole = st.integers(-(2**31), 2**31 - 1)


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


ENVELOPE: dict[str, st.SearchStrategy[Any]] = {
    "id": st.uuids(),
    "tenant": words,
    "created_at": instants,
    "customer_id": _maybe(words),
    "workflow": _maybe(words),
    "priority": st.sampled_from(Priority),
    "send_at": _maybe(instants),
    "expires_at": _maybe(instants),
    "on_doubt": _maybe(st.sampled_from(OnDoubt)),
    "metadata": maps,
    "traceparent": _maybe(words),
    "bypass_suppression": st.booleans(),
    "mode": st.sampled_from(Mode),
}
attachments = st.builds(
    Attachment,
    filename=words,
    content_type=words,
    content=st.binary(max_size=64),
    content_id=_maybe(words),
)
subscriptions = st.builds(WebPushSubscription, endpoint=words, p256dh=words, auth=words)
sms = st.builds(SmsMessage, **ENVELOPE, to=words, body=words, sender=_maybe(words))
emails = st.builds(
    EmailMessage,
    **ENVELOPE,
    to=words,
    subject=words,
    text=_maybe(words),
    html=_maybe(words),
    cc=st.lists(words, max_size=3).map(tuple),
    bcc=st.lists(words, max_size=3).map(tuple),
    reply_to=_maybe(words),
    sender=_maybe(words),
    attachments=st.lists(attachments, max_size=2).map(tuple),
    headers=maps,
    unsubscribe_url=_maybe(words),
)
pushes = st.builds(
    PushMessage,
    **ENVELOPE,
    title=words,
    body=words,
    tokens=st.lists(words, max_size=3).map(tuple),
    subscription=_maybe(subscriptions),
    platform=_maybe(st.sampled_from(Platform)),
    data=maps,
    badge=_maybe(whole),
    collapse_key=_maybe(words),
    ttl=_maybe(whole),
)
calls = st.builds(
    VoiceMessage,
    **ENVELOPE,
    to=words,
    text=_maybe(words),
    audio_url=_maybe(words),
    language=_maybe(words),
    voice=_maybe(words),
    repeat=whole,
    sender=_maybe(words),
)
events = st.builds(
    StatusEvent,
    id=st.uuids(),
    message_id=st.uuids(),
    tenant=words,
    channel=st.sampled_from(Channel),
    status=st.sampled_from(Status),
    reason=st.sampled_from(Reason),
    attempt=whole,
    provider=_maybe(words),
    provider_message_id=_maybe(words),
    code=_maybe(words),
    detail=_maybe(words),
    response=_maybe(words),
    occurred_at=instants,
    recipient=_maybe(words),
    customer_id=_maybe(words),
    workflow=_maybe(words),
    priority=_maybe(st.sampled_from(Priority)),
    created_at=_maybe(instants),
    send_at=_maybe(instants),
    expires_at=_maybe(instants),
    metadata=maps,
    traceparent=_maybe(words),
    mode=_maybe(st.sampled_from(Mode)),
)
records: st.SearchStrategy[Record] = st.one_of(sms, emails, pushes, calls, events)

SMS = SmsMessage(
    id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    tenant="acme",
    created_at=datetime(2030, 1, 31, 9, tzinfo=UTC),
    to="+12025550100",
    body="Hi",
)
