"""Failover: two providers, one of which misbehaves in every way; messages arrive by the other.

Everything but the providers' servers is real: broker, database, adapters and the channel process. A
message that a server may have sent is one that a person received. A person may receive it more than
once only if an event said before that the answer to a call was lost.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path

import pytest

from comms.platform.kafka import Broker
from consumers.sdk import error_codes
from consumers.sdk.error_codes import ErrorTable
from consumers.sms import twilio, vonage
from schemas.events import StatusEvent
from schemas.messages import SmsMessage
from schemas.vocabulary import Reason, Status
from tests.consumers.contract.samples import closed_port
from tests.consumers.fake_provider import Call, FakeProvider, Fault, running_provider
from tests.consumers.harness import (
    Listener,
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    sms,
)
from tests.consumers.keyed import install_keyed

# Weights stay, and rests are short, so that the faulty provider is called again and again.
CONFIG = """
[sms]
call_timeout_seconds = 1
[sms.retry]
attempts = 3
base_seconds = 0.05
[sms.routing]
floor = 100
breaker_failures = {failures}
breaker_rest_seconds = {rest}
breaker_rest_cap_seconds = {rest}
account_rest_seconds = 0.05
"""
KEYS = {
    "TWILIO_ACCOUNT_SID": "AC1",
    "TWILIO_AUTH_TOKEN": "a secret token",
    "VONAGE_API_KEY": "key",
    "VONAGE_API_SECRET": "a secret",
    "TELNYX_API_KEY": "another key",
}
INVALID_RECIPIENT = {
    "twilio": {"code": 21211, "message": "Invalid 'To'"},
    "vonage": {"type": "https://developer.vonage.com/api-errors/messages#1170"},
    "telnyx": {"errors": [{"code": "40310", "title": "Invalid 'to' address"}]},
    "keyed": {"code": "nobody"},
}
FINAL_STATUSES = {Status.SENT, Status.FAILED, Status.UNKNOWN}
MIN_MESSAGES = 6  # that are sent while a provider misbehaves
MIN_CALLS = 4  # of the faulty provider
numbers = count(1)


def answers(status: int, value: object = "<html>", **headers: str) -> Fault:
    return Fault(f"{status} {value} {headers}", lambda call: call.answer(status, value, **headers))


def _answer_half(call: Call) -> None:
    call.write(b'HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"sid": "SM')


def _answer_late(call: Call) -> None:
    call.wait(0.4)
    call.accept()


FAULTS = (
    answers(500),
    answers(502),
    answers(503, Retry_After="1"),
    answers(429),
    answers(429, Retry_After="1"),
    answers(408),
    answers(302, Location="http://127.0.0.1:9/elsewhere"),
    answers(401),
    answers(402),
    answers(403),
    answers(201, {"sid": "SM1", "status": "failed", "error_code": 30001}),
    Fault("never answers", lambda call: call.wait(), may_send=True),
    Fault("closes the connection", lambda call: call.connection.close(), may_send=True),
    Fault("garbage", lambda call: call.write(b"\x15\x03\x01 no HTTP \xff\r\n\r\n"), may_send=True),
    Fault("half an answer", _answer_half, may_send=True),
    Fault("504", lambda call: call.answer(504, "<html>"), may_send=True),
    Fault("a page", lambda call: call.answer(200, "<html>Sign in</html>"), may_send=True),
    Fault("answers late", _answer_late, may_send=True),
)


def account_errors(table: ErrorTable, name: str) -> list[Fault]:
    """Return a fault for each code of an account error."""
    codes = [
        code for code, meaning in table.codes.items() if meaning.fault is error_codes.Fault.ACCOUNT
    ]
    if name == "twilio":
        return [answers(400, {"code": int(code), "message": "No"}) for code in codes]
    return [
        answers(422, {"type": f"https://developer.vonage.com/api-errors#{code}"}) for code in codes
    ]


class Scene:
    """A running channel with its providers, and a listener to its events."""

    def __init__(
        self, broker: Broker, status_topic: Listener, providers: Sequence[FakeProvider]
    ) -> None:
        self.providers = providers
        self._broker = broker
        self._status_topic = status_topic

    def send(self, *to: str) -> list[SmsMessage]:
        """Publish a message to each number."""
        messages = [sms(to=number) for number in to]
        publish(self._broker, *messages)
        return messages

    def wait_for_ends(self, messages: Sequence[SmsMessage]) -> list[StatusEvent]:
        """Wait until all messages have ended, and return the event that ended each."""

        def final_events() -> list[StatusEvent]:
            self._status_topic.listen()
            events = (
                event for message in messages for event in self._status_topic.events[message.id]
            )
            return [event for event in events if event.status in FINAL_STATUSES]

        eventually(lambda: len(final_events()) >= len(messages), "all have ended")
        return final_events()

    def send_during(
        self, faulty: FakeProvider, fault: Fault, min_calls: int = MIN_CALLS
    ) -> list[SmsMessage]:
        """Send messages to new numbers, a pair at a time, while a provider has a fault.

        Before that, wait until the provider accepts messages. Stop when it was called often enough.
        """
        self._send_until(lambda sent: faulty.sent.total() > 0, faulty, None)
        messages = self._send_until(
            lambda sent: sent >= MIN_MESSAGES and faulty.calls.total() >= min_calls, faulty, fault
        )
        self.wait_for_ends(messages)
        return messages

    def _send_until(
        self, is_enough: Callable[[int], bool], faulty: FakeProvider, fault: Fault | None
    ) -> list[SmsMessage]:
        faulty.reset()
        faulty.fault, messages = fault, list[SmsMessage]()
        while not is_enough(len(messages)):
            pair = self.send(new_number(), new_number())
            self._wait_for_attempt(pair[-1])
            messages += pair
        return messages

    def _wait_for_attempt(self, message: SmsMessage) -> None:
        def has_event() -> bool:
            self._status_topic.listen()
            return len(self._status_topic.events[message.id]) > 0

        eventually(has_event, "an attempt")

    def is_declared(self, message: SmsMessage) -> bool:
        """Whether an event said that the answer to a call was lost."""
        return (Status.SENDING, Reason.AMBIGUOUS) in self._status_topic.statuses(message.id)

    def count_sent(self, message: SmsMessage) -> int:
        """Return how often the message may have been sent to its number."""
        return sum(provider.sent[message.to] for provider in self.providers)


def new_number() -> str:
    return f"+1212{next(numbers):07d}"


@contextmanager
def scene(
    broker: Broker,
    database_url: str,
    tmp_path: Path,
    *names: str,
    failures: int = 3,
    rest: float = 0.1,
    **urls: str,
) -> Iterator[Scene]:
    """Run a channel with these providers; `urls` replace the addresses of some of them."""
    with ExitStack() as stack:
        providers = [
            stack.enter_context(running_provider(name, INVALID_RECIPIENT[name])) for name in names
        ]
        tables = [
            f'[[sms.providers]]\nname = "{p.name}"\nfrom = "+15005550006"\n'
            f'base_url = "{urls.get(p.name, p.url)}"\n'
            for p in providers
        ]
        config = tmp_path / "comms.toml"
        config.write_text(CONFIG.format(failures=failures, rest=rest) + "".join(tables))
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config), **KEYS)
        with listener(broker) as status_topic, channel(settings):
            yield Scene(broker, status_topic, providers)


def check(
    running: Scene, messages: Sequence[SmsMessage], faulty: FakeProvider, fault: Fault
) -> None:
    """Check that all messages arrived, and that none was sent twice undeclared.

    If the faulty provider accepted nothing, they arrived by the other.
    """
    for message, ending in zip(messages, running.wait_for_ends(messages), strict=True):
        case = f"{message.to} while {faulty.name}: {fault.name}"
        assert ending.status is Status.SENT, case
        assert ending.provider != faulty.name or fault.may_send, case
        assert ending.attempt <= 3, case
        times = running.count_sent(message)
        assert 1 <= times <= 2, case
        assert times == 1 or running.is_declared(message), case


@pytest.mark.parametrize(
    ("bad", "table", "faults"),
    [("twilio", twilio.CODES, FAULTS), ("vonage", vonage.CODES, FAULTS[::6])],
)
def test_messages_arrive_by_the_other_provider_during_every_fault(
    broker: Broker,
    database_url: str,
    tmp_path: Path,
    *,
    bad: str,
    table: ErrorTable,
    faults: Sequence[Fault],
) -> None:
    with scene(broker, database_url, tmp_path, "twilio", "vonage") as running:
        check_invalid_numbers(running)
        faulty = next(provider for provider in running.providers if provider.name == bad)
        for fault in faults:
            check(running, running.send_during(faulty, fault), faulty, fault)
        errors = account_errors(table, bad)
        in_turn = cycle(errors)
        each_error = Fault("refuses the account", lambda call: next(in_turn).respond(call))
        messages = running.send_during(faulty, each_error, len(errors))
        check(running, messages, faulty, each_error)


def check_invalid_numbers(running: Scene) -> None:
    """A number that one provider calls invalid is not tried with another provider."""
    invalid = [new_number() for _ in range(8)]
    for provider in running.providers:
        provider.invalid_numbers = frozenset(invalid)
    endings = running.wait_for_ends(running.send(*invalid))
    assert {(event.status, event.reason) for event in endings} == {
        (Status.FAILED, Reason.INVALID_RECIPIENT)
    }
    first, second = running.providers
    assert first.calls + second.calls == dict.fromkeys(invalid, 1)


def test_messages_arrive_when_other_providers_cannot_be_connected_to(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    """One address has no server, and another has a server that does not speak TLS."""
    with running_provider("plain", "") as plain:
        unavailable = {
            "twilio": f"http://127.0.0.1:{closed_port()}",
            "telnyx": f"https://127.0.0.1:{plain.server_port}",
        }
        with scene(
            broker,
            database_url,
            tmp_path,
            "twilio",
            "telnyx",
            "vonage",
            failures=1,
            rest=60,
            **unavailable,
        ) as running:
            messages = running.send(*(new_number() for _ in range(12)))
            endings = running.wait_for_ends(messages)
            assert {(event.status, event.provider) for event in endings} == {
                (Status.SENT, "vonage")
            }
            assert all(running.count_sent(message) == 1 for message in messages)


def test_a_provider_with_idempotency_keys_repeats_its_own_calls_while_it_works(
    broker: Broker, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its key a repeated call is carried out once, which no other provider can ensure."""
    install_keyed(tmp_path, monkeypatch)
    with scene(broker, database_url, tmp_path, "keyed", "vonage", failures=2, rest=60) as running:
        keyed, vonage = running.providers

        def close_once(call: Call) -> None:
            keyed.fault = None
            call.connection.close()

        keyed.fault = Fault("closes the connection, once", close_once, may_send=True)
        messages = running.send(*(new_number() for _ in range(12)))
        endings = running.wait_for_ends(messages)
        assert {event.status for event in endings} == {Status.SENT}
        (lost,) = [message for message in messages if running.is_declared(message)]
        assert keyed.calls[lost.to] == 2
        assert len(keyed.keys[lost.to]) == 1
        assert not any(keyed.calls[m.to] and vonage.calls[m.to] for m in messages)

        keyed.fault = Fault("never answers", lambda call: call.wait(), may_send=True)
        messages = running.send(*(new_number() for _ in range(16)))
        check(running, messages, keyed, keyed.fault)
        assert keyed.sent.total() > 0
        assert all(vonage.calls[message.to] == 1 for message in messages)
