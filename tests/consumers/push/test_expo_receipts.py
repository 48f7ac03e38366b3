"""Expo's receipts: which are asked for, and what they come to for a message with its devices."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from consumers.push.devices import Device, folded
from consumers.push.expo import ExpoPush
from consumers.sdk.http_transport import Answer
from consumers.sdk.outcomes import Accepted, Outcome
from consumers.sdk.receipt_polling import PollableProvider, ReceiptPollError, ReceiptQuery
from consumers.sdk.receipts import HandedToCarrier, Receipt
from schemas.ids import new_message_id
from schemas.vocabulary import Channel, Reason, SuppressionReason
from tests.consumers.contract.http_suite import Reply
from tests.consumers.contract.samples import closed_port, only_provider, settings_with
from tests.consumers.push.expo_stub import OK, ExpoStub, bad, expo_stub
from tests.consumers.push.test_expo import bad as bad_ticket
from tests.consumers.push.test_expo import ticket, token

LATER = timedelta(hours=2)


@pytest.fixture
async def stub() -> AsyncIterator[ExpoStub]:
    async with expo_stub() as made:
        yield made


def adapter(url: str, **environment: str) -> ExpoPush:
    table = {"name": "expo", "base_url": url}
    settings = settings_with(Channel.PUSH, table, environment=environment)
    made = only_provider(settings, Channel.PUSH)
    assert isinstance(made, ExpoPush)
    return made


@pytest.fixture
async def provider(stub: ExpoStub) -> AsyncIterator[ExpoPush]:
    made = adapter(stub.url, EXPO_ACCESS_TOKEN="an access token")
    await made.open()
    yield made
    await made.close()


def question(*tickets: dict[str, Any], age: timedelta = timedelta(minutes=20)) -> ReceiptQuery:
    """About a message whose devices had these tickets, as `send` put it into the ledger."""
    service = adapter("http://127.0.0.1:1")._expo
    tokens = [token(number) for number in range(len(tickets))]
    answer = Answer(200, {}, json.dumps({"data": tickets}))
    outcomes: list[Outcome] = list(service.read(tokens, answer))
    sent = folded([Device(n, tokens[n], one) for n, one in enumerate(outcomes)])
    assert isinstance(sent, Accepted)
    assert sent.response.provider_message_id
    return ReceiptQuery(
        message_id=new_message_id(),
        provider_message_id=sent.response.provider_message_id,
        response=sent.response.raw,
        age=age,
    )


async def test_what_google_or_apple_took_is_handed_on_and_not_delivered(
    stub: ExpoStub, provider: ExpoPush
) -> None:
    assert isinstance(provider, PollableProvider)
    asked = question(ticket(1))
    stub.receipts["ticket-1"] = OK
    (word,) = await provider.fetch_receipts([asked])
    assert isinstance(word, HandedToCarrier)
    assert word.message_id == asked.message_id
    assert word.response.provider_message_id == "ticket-1"
    assert word.response.detail == "Google or Apple took it"
    assert stub.authorizations == ["Bearer an access token"]


@pytest.mark.parametrize(
    ("error", "reason", "suppress"),
    [
        ("DeviceNotRegistered", Reason.INVALID_RECIPIENT, SuppressionReason.HARD_BOUNCE),
        ("MessageTooBig", Reason.INVALID_CONTENT, None),
        ("MessageRateExceeded", Reason.UNDELIVERED, None),
        ("MismatchSenderId", Reason.UNDELIVERED, None),
        ("InvalidCredentials", Reason.UNDELIVERED, None),
        ("AnErrorOfTomorrow", Reason.UNDELIVERED, None),
    ],
)
async def test_each_error_is_a_failure_with_what_it_means(
    stub: ExpoStub,
    provider: ExpoPush,
    error: str,
    reason: Reason,
    suppress: SuppressionReason | None,
) -> None:
    stub.receipts["ticket-1"] = bad(error, "It says why")
    (word,) = await provider.fetch_receipts([question(ticket(1))])
    assert isinstance(word, Receipt)
    assert (word.delivered, word.reason, word.suppress) == (False, reason, suppress)
    assert (word.response.code, word.response.detail) == (error, "It says why")
    assert word.response.provider_message_id == "ticket-1"


async def test_no_word_shows_a_device(stub: ExpoStub, provider: ExpoPush) -> None:
    other_form = "a1b2c3d4-0000-4000-8000-a1b2c3d4e5f6"
    stub.receipts["ticket-1"] = bad(
        "DeviceNotRegistered",
        f'"{token(1)}", that is {other_form}, is not registered',
        expoPushToken=token(1),
        apns={"token": "of-apple"},
    )
    (word,) = await provider.fetch_receipts([question(ticket(1))])
    assert isinstance(word, Receipt)
    shown = repr(word.response)
    assert "is not registered" in shown
    assert not any(secret in shown for secret in (token(1), other_form, "of-apple"))


async def test_a_receipt_that_is_not_there_yet_is_no_word(
    stub: ExpoStub, provider: ExpoPush
) -> None:
    stub.receipts["ticket-2"] = OK
    missing, there = question(ticket(1), age=LATER), question(ticket(2))
    (word,) = await provider.fetch_receipts([missing, there])
    assert isinstance(word, HandedToCarrier)
    assert word.message_id == there.message_id
    assert stub.asked == [["ticket-1", "ticket-2"]]


def became(word: object) -> dict[int, str]:
    """What became of each device, by its place."""
    assert isinstance(word, Receipt | HandedToCarrier)
    return {one["n"]: one["became"] for one in json.loads(word.response.raw or "")}


async def test_a_message_with_a_device_that_was_reached_is_handed_on_and_tells_of_the_others(
    stub: ExpoStub, provider: ExpoPush
) -> None:
    stub.receipts = {"ticket-1": OK, "ticket-2": bad("DeviceNotRegistered")}
    asked = question(ticket(1), bad_ticket("MessageTooBig"), ticket(2))
    (word,) = await provider.fetch_receipts([asked])
    assert isinstance(word, HandedToCarrier)
    assert became(word) == {0: "handed_on", 1: "invalid_content", 2: "invalid_recipient"}
    assert word.response.detail == "1 of 3 devices handed on, 1 are gone"
    assert word.response.provider_message_id == "ticket-1"
    assert stub.tickets_asked == ["ticket-1", "ticket-2"]


async def test_a_message_fails_where_every_device_did(stub: ExpoStub, provider: ExpoPush) -> None:
    stub.receipts = {f"ticket-{n}": bad("DeviceNotRegistered") for n in range(1, 5)}
    stub.receipts["ticket-4"] = bad("InvalidCredentials")
    all_gone = question(ticket(1), bad_ticket("DeviceNotRegistered"), ticket(2))
    not_all = question(ticket(3), ticket(4))
    one, other = await provider.fetch_receipts([all_gone, not_all])
    assert isinstance(one, Receipt)
    assert isinstance(other, Receipt)
    assert (one.reason, one.suppress) == (Reason.INVALID_RECIPIENT, None)
    assert one.response.code == "DeviceNotRegistered"
    assert (other.reason, other.response.code) == (Reason.UNDELIVERED, "InvalidCredentials")
    assert became(other) == {0: "invalid_recipient", 1: "undelivered"}


async def test_a_message_of_several_waits_for_all_receipts_but_not_for_ever(
    stub: ExpoStub, provider: ExpoPush
) -> None:
    stub.receipts = {"ticket-1": OK, "ticket-3": bad("DeviceNotRegistered")}
    assert await provider.fetch_receipts([question(ticket(1), ticket(2))]) == []
    (word,) = await provider.fetch_receipts([question(ticket(1), ticket(2), age=LATER)])
    assert isinstance(word, HandedToCarrier)
    assert became(word) == {0: "handed_on", 1: "accepted"}
    # Of the other device nothing is known: nobody can say that the message failed.
    assert await provider.fetch_receipts([question(ticket(3), ticket(4), age=LATER)]) == []


async def test_of_devices_beyond_what_the_ledger_holds_nothing_is_claimed(
    stub: ExpoStub, provider: ExpoPush
) -> None:
    long = [{"status": "ok", "id": f"{n:08}-{'x' * 27}"} for n in range(60)]
    asked = question(*long, age=LATER)
    stub.receipts = {one["id"]: bad("DeviceNotRegistered") for one in long}
    assert await provider.fetch_receipts([asked]) == []
    (tickets,) = stub.asked
    assert 30 < len(tickets) < 60
    stub.receipts[tickets[0]] = OK
    (word,) = await provider.fetch_receipts([asked])
    assert isinstance(word, HandedToCarrier)
    assert (word.response.detail or "").startswith("1 of 60 devices handed on")
    assert json.loads(word.response.raw or "")[-1] == {"more": 60 - len(tickets)}


async def test_a_thousand_receipts_with_errors_are_one_request(
    stub: ExpoStub, provider: ExpoPush
) -> None:
    asked = [question(ticket(n)) for n in range(1001)]
    stub.receipts = {f"ticket-{n}": bad("DeviceNotRegistered", "x" * 300) for n in range(1001)}
    assert len(await provider.fetch_receipts(asked)) == 1001
    assert [len(tickets) for tickets in stub.asked] == [1000, 1]


@pytest.mark.parametrize(
    ("reply", "after"),
    [
        (Reply(500, "later"), None),
        (Reply(503, "", {"Retry-After": "30"}), 30.0),
        (Reply(429, '{"errors":[{"code":"TOO_MANY_REQUESTS"}]}', {"Retry-After": "7"}), 7.0),
        (Reply(403, '{"errors":[{"code":"UNAUTHORIZED"}]}'), None),
        (Reply(200, '{"errors":[{"code":"TOO_MANY_REQUESTS"}],"data":{}}'), None),
        (Reply(200, "<html>"), None),
        (Reply(200, '{"data":["ticket-1"]}'), None),
        (Reply(302, "", {"Location": "http://127.0.0.1"}), None),
    ],
    ids=lambda reply: f"{reply.status} {reply.text[:20]}" if isinstance(reply, Reply) else "",
)
async def test_what_is_no_answer_is_to_be_asked_again(
    stub: ExpoStub, provider: ExpoPush, reply: Reply, after: float | None
) -> None:
    stub.receipts["ticket-1"], stub.reply = OK, reply
    with pytest.raises(ReceiptPollError) as caught:
        await provider.fetch_receipts([question(ticket(1))])
    assert caught.value.after == after
    stub.reply = None
    assert len(await provider.fetch_receipts([question(ticket(1))])) == 1


@pytest.mark.parametrize("receipt", [{}, {"status": "odd"}], ids=str)
async def test_a_receipt_that_says_nothing_is_none(
    stub: ExpoStub, provider: ExpoPush, receipt: dict[str, Any]
) -> None:
    stub.receipts["ticket-1"] = receipt
    assert await provider.fetch_receipts([question(ticket(1), age=LATER)]) == []


async def test_without_a_connection_it_is_to_be_asked_again() -> None:
    unreachable = adapter(f"http://127.0.0.1:{closed_port()}")
    await unreachable.open()
    with pytest.raises(ReceiptPollError, match="no connection"):
        await unreachable.fetch_receipts([question(ticket(1))])
    await unreachable.close()


async def test_with_no_ticket_nothing_is_asked(stub: ExpoStub, provider: ExpoPush) -> None:
    assert await provider.fetch_receipts([]) == []
    assert stub.asked == []
