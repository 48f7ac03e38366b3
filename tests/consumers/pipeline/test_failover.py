"""Two providers of texts, one of which misbehaves in every way: messages arrive by the other.

Everything but the providers' ends is real: broker, database, adapters, the channel's process. What
an end may have carried out is what a person received; more than once only where an event said
before that the answer to a call was lost.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path

import pytest

from comms.platform.kafka import Broker
from consumers.sdk.error_codes import ErrorTable
from consumers.sdk.error_codes import Fault as Whose
from consumers.sms import twilio, vonage
from schemas.events import StatusEvent
from schemas.messages import SmsMessage
from schemas.vocabulary import Reason, Status
from tests.consumers.contract.samples import closed_port
from tests.consumers.ends import Asked, End, Fault, end
from tests.consumers.harness import (
    Listener,
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    sms,
)
from tests.consumers.keyed import installed as keyed_installed

# Weights stay, and rests are short, so that the one that misbehaves is asked again and again.
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
NOBODY = {
    "twilio": {"code": 21211, "message": "Invalid 'To'"},
    "vonage": {"type": "https://developer.vonage.com/api-errors/messages#1170"},
    "telnyx": {"errors": [{"code": "40310", "title": "Invalid 'to' address"}]},
    "keyed": {"code": "nobody"},
}
ENDED = {Status.SENT, Status.FAILED, Status.UNKNOWN}
AT_LEAST = 6  # messages that are sent while a provider misbehaves
TIMES = 4  # that it is asked at least
numbers = count(1)


def says(status: int, value: object = "<html>", **headers: str) -> Fault:
    return Fault(f"{status} {value} {headers}", lambda asked: asked.say(status, value, **headers))


def _half_an_answer(asked: Asked) -> None:
    asked.write(b'HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"sid": "SM')


def _slow(asked: Asked) -> None:
    asked.wait(0.4)
    asked.take()


FAULTS = (
    says(500),
    says(502),
    says(503, Retry_After="1"),
    says(429),
    says(429, Retry_After="1"),
    says(408),
    says(302, Location="http://127.0.0.1:9/elsewhere"),
    says(401),
    says(402),
    says(403),
    says(201, {"sid": "SM1", "status": "failed", "error_code": 30001}),
    Fault("says nothing, ever", lambda asked: asked.wait(), may_send=True),
    Fault("hangs up", lambda asked: asked.connection.close(), may_send=True),
    Fault(
        "garbage", lambda asked: asked.write(b"\x15\x03\x01 no HTTP \xff\r\n\r\n"), may_send=True
    ),
    Fault("half an answer", _half_an_answer, may_send=True),
    Fault("504", lambda asked: asked.say(504, "<html>"), may_send=True),
    Fault("a page", lambda asked: asked.say(200, "<html>Sign in</html>"), may_send=True),
    Fault("answers late", _slow, may_send=True),
)


def accounts_faults(table: ErrorTable, name: str) -> list[Fault]:
    """One for each code that says that the account is refused."""
    codes = [code for code, meaning in table.codes.items() if meaning.fault is Whose.ACCOUNT]
    if name == "twilio":
        return [says(400, {"code": int(code), "message": "No"}) for code in codes]
    return [
        says(422, {"type": f"https://developer.vonage.com/api-errors#{code}"}) for code in codes
    ]


class Scene:
    """A channel of two providers, and who listens to it."""

    def __init__(self, broker: Broker, heard: Listener, ends: Sequence[End]) -> None:
        self._broker, self._heard = broker, heard
        self.ends = ends

    def send(self, *to: str) -> list[SmsMessage]:
        """One message to each."""
        messages = [sms(to=one) for one in to]
        publish(self._broker, *messages)
        return messages

    def ended(self, messages: Sequence[SmsMessage]) -> list[StatusEvent]:
        """The event that ended each, once all have ended."""

        def found() -> list[StatusEvent]:
            self._heard.listen()
            said = (event for message in messages for event in self._heard.events[message.id])
            return [event for event in said if event.status in ENDED]

        eventually(lambda: len(found()) >= len(messages), "all have ended")
        return found()

    def send_until(self, faulty: End, fault: Fault, times: int = TIMES) -> list[SmsMessage]:
        """Messages to new numbers, one after the other, until an end that takes messages, and now
        has this fault, has been asked so often."""
        self._one_by_one(lambda sent: faulty.sent.total() > 0, faulty, None)
        messages = self._one_by_one(
            lambda sent: sent >= AT_LEAST and faulty.asked.total() >= times, faulty, fault
        )
        self.ended(messages)
        return messages

    def _one_by_one(
        self, enough: Callable[[int], bool], faulty: End, fault: Fault | None
    ) -> list[SmsMessage]:
        faulty.forget()
        faulty.fault, messages = fault, list[SmsMessage]()
        while not enough(len(messages)):
            new = self.send(new_number(), new_number())
            self._begun(new[-1])
            messages += new
        return messages

    def _begun(self, message: SmsMessage) -> None:
        def is_heard() -> bool:
            self._heard.listen()
            return len(self._heard.events[message.id]) > 0

        eventually(is_heard, "an attempt")

    def declared(self, message: SmsMessage) -> bool:
        """Whether an event said that the answer to a call was lost."""
        return (Status.SENDING, Reason.AMBIGUOUS) in self._heard.statuses(message.id)

    def sent(self, message: SmsMessage) -> int:
        """How often the message may have been sent to its number."""
        return sum(one.sent[message.to] for one in self.ends)


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
    """A channel with these providers; `urls` are where one is called in place of its end."""
    with ExitStack() as stack:
        ends = [stack.enter_context(end(name, NOBODY[name])) for name in names]
        tables = [
            f'[[sms.providers]]\nname = "{e.name}"\nfrom = "+15005550006"\n'
            f'base_url = "{urls.get(e.name, e.url)}"\n'
            for e in ends
        ]
        config = tmp_path / "comms.toml"
        config.write_text(CONFIG.format(failures=failures, rest=rest) + "".join(tables))
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config), **KEYS)
        with listener(broker) as heard, channel(settings):
            yield Scene(broker, heard, ends)


def check(found: Scene, messages: Sequence[SmsMessage], faulty: End, fault: Fault) -> None:
    """All arrived; by the other one if this one took nothing; none twice undeclared."""
    for message, ending in zip(messages, found.ended(messages), strict=True):
        what = f"{message.to} while {faulty.name} {fault.name}"
        assert ending.status is Status.SENT, what
        assert ending.provider != faulty.name or fault.may_send, what
        assert ending.attempt <= 3, what
        times = found.sent(message)
        assert 1 <= times <= 2, what
        assert times == 1 or found.declared(message), what


@pytest.mark.parametrize(
    ("bad", "table", "faults"),
    [("twilio", twilio.CODES, FAULTS), ("vonage", vonage.CODES, FAULTS[::6])],
)
def test_messages_arrive_by_the_other_provider_whatever_one_does(
    broker: Broker,
    database_url: str,
    tmp_path: Path,
    *,
    bad: str,
    table: ErrorTable,
    faults: Sequence[Fault],
) -> None:
    with scene(broker, database_url, tmp_path, "twilio", "vonage") as found:
        refuses_a_number(found)
        faulty = next(one for one in found.ends if one.name == bad)
        for fault in faults:
            check(found, found.send_until(faulty, fault), faulty, fault)
        refusals = accounts_faults(table, bad)
        in_turn = cycle(refusals)
        every_one = Fault("refuses the account", lambda asked: next(in_turn).do(asked))
        messages = found.send_until(faulty, every_one, len(refusals))
        check(found, messages, faulty, every_one)


def refuses_a_number(found: Scene) -> None:
    """What one provider says of a person it would have said of them anywhere."""
    wrong = [new_number() for _ in range(8)]
    for one in found.ends:
        one.refuses = frozenset(wrong)
    endings = found.ended(found.send(*wrong))
    assert {(event.status, event.reason) for event in endings} == {
        (Status.FAILED, Reason.INVALID_RECIPIENT)
    }
    assert found.ends[0].asked + found.ends[1].asked == dict.fromkeys(wrong, 1)


def test_messages_arrive_where_others_cannot_be_connected_to(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    """Nobody listens at one, and nobody who speaks TLS at another."""
    with end("plain", "") as plain:
        away = {
            "twilio": f"http://127.0.0.1:{closed_port()}",
            "telnyx": f"https://127.0.0.1:{plain.server_port}",
        }
        names = ("twilio", "telnyx", "vonage")
        with scene(broker, database_url, tmp_path, *names, failures=1, rest=60, **away) as found:
            messages = found.send(*(new_number() for _ in range(12)))
            endings = found.ended(messages)
            assert {(event.status, event.provider) for event in endings} == {
                (Status.SENT, "vonage")
            }
            assert all(found.sent(message) == 1 for message in messages)


def test_one_that_knows_a_call_again_repeats_it_itself_while_it_lives(
    broker: Broker, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its idempotency key it is carried out once, which no other could promise."""
    keyed_installed(tmp_path, monkeypatch)
    with scene(broker, database_url, tmp_path, "keyed", "vonage", failures=2, rest=60) as found:
        keyed, vonage = found.ends

        def hangs_up_once(asked: Asked) -> None:
            keyed.fault = None
            asked.connection.close()

        keyed.fault = Fault("hangs up, once", hangs_up_once, may_send=True)
        messages = found.send(*(new_number() for _ in range(12)))
        endings = found.ended(messages)
        assert {event.status for event in endings} == {Status.SENT}
        (lost,) = [message for message in messages if found.declared(message)]
        assert keyed.asked[lost.to] == 2
        assert len(keyed.keys[lost.to]) == 1
        assert not any(keyed.asked[m.to] and vonage.asked[m.to] for m in messages)

        keyed.fault = Fault("says nothing, ever", lambda asked: asked.wait(), may_send=True)
        messages = found.send(*(new_number() for _ in range(16)))
        check(found, messages, keyed, keyed.fault)
        assert keyed.sent.total() > 0
        assert all(vonage.asked[message.to] == 1 for message in messages)
