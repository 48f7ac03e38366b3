"""Who may be given which message: by platform, by how it is meant, and what becomes of the rest."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from comms.platform.settings import RetryPolicy, RoutingPolicy
from consumers.ledger.delivery import Delivery, Lease
from consumers.pipeline.selection import Selection, Selector, is_no_provider
from consumers.routing import Route, Router
from consumers.routing.router import Unlimited
from consumers.sdk.capabilities import ANY_MODE, LIVE, LIVE_AND_TEST, NEVER_LIVE, Capabilities
from consumers.sdk.outcomes import TryLater
from schemas.ids import new_message_id
from schemas.messages import Message, PushMessage
from schemas.vocabulary import Mode, Platform, Reason
from tests.consumers.harness import Named, sms

NOW = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = RoutingPolicy(breaker_failures=1, breaker_rest_seconds=30)
BROKEN = TryLater(reason=Reason.PROVIDER_ERROR)
TO = {platform: Capabilities(LIVE, platform) for platform in Platform}


def push(platform: Platform | None, **changes: object) -> PushMessage:
    values: dict[str, object] = {
        "id": new_message_id(),
        "tenant": "acme",
        "created_at": NOW,
        "title": "Hello",
        "body": "Nine o'clock",
        "tokens": ("token",),
        "platform": platform,
    }
    return PushMessage(**(values | changes))  # type: ignore[arg-type]


class Exhausted(Unlimited):
    """Rate limits that allow no call now."""

    def allows(self, provider: str) -> bool:
        del provider
        return False


class Channel:
    """A router and a chooser over providers by name, each with what it takes."""

    def __init__(self, has_room: bool = True, **providers: Capabilities) -> None:
        routes = [Route(Named(name), 100, capabilities=takes) for name, takes in providers.items()]
        self.router = Router(
            routes, POLICY, source=random.Random(7), limits=None if has_room else Exhausted()
        )
        self._selector = Selector(self.router, RetryPolicy(), lambda: NOW)

    def breaks(self, *names: str) -> None:
        for name in names:
            self.router.record_outcome(name, BROKEN, seconds=0.1, now=NOW.timestamp())

    def sort(self, *messages: Message) -> Selection:
        return self._selector.select([Delivery(m, b"", Lease(m.id)) for m in messages])


def by(found: Selection) -> list[str]:
    return [choice.provider.name for _, choice in found.candidates]


def test_each_notification_goes_by_a_provider_of_its_platform() -> None:
    channel = Channel(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    wanted = [Platform.FCM, Platform.APNS] * 20
    assert by(channel.sort(*map(push, wanted))) == [str(one) for one in wanted]
    assert set(by(channel.sort(*[push(None) for _ in range(40)]))) == {"fcm", "apns"}


def test_a_platform_that_nobody_sends_to_is_nobodys_message() -> None:
    channel = Channel(fcm=TO[Platform.FCM])
    found = channel.sort(push(Platform.APNS), push(Platform.FCM))
    (_, nobody), (_, choice) = found.candidates
    assert is_no_provider(nobody)
    assert nobody.why == "no provider of the channel sends to apns"
    assert choice.provider.name == "fcm"


def test_the_outage_of_one_platform_holds_up_no_other() -> None:
    channel = Channel(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    channel.breaks("fcm")
    found = channel.sort(*[push(Platform.FCM) for _ in range(3)], push(Platform.APNS))
    assert by(found) == ["apns"]
    assert [seconds for _, seconds in found.deferrals] == [30, 30, 30]


def test_what_expired_meanwhile_is_ended() -> None:
    channel = Channel(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    channel.breaks("fcm")
    late = push(Platform.FCM, expires_at=NOW - timedelta(seconds=1))
    (one,) = channel.sort(late).candidates
    assert is_no_provider(one[1])


def test_with_the_whole_channel_left_alone_everything_waits_in_its_place() -> None:
    channel = Channel(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    channel.breaks("fcm", "apns")
    messages = [push(Platform.FCM), push(Platform.APNS)]
    assert [d.message for d in channel.sort(*messages).waiting] == messages
    alike = Channel(a=Capabilities(), b=Capabilities())
    alike.breaks("a", "b")
    assert len(alike.sort(sms(), sms(), sms()).waiting) == 3


def test_a_rate_limit_makes_messages_wait_and_not_step_aside() -> None:
    channel = Channel(has_room=False, fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    assert len(channel.sort(push(Platform.FCM), push(Platform.APNS)).waiting) == 2


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (Mode.LIVE, {"live", "sandbox", "any"}),
        (Mode.TEST, {"sandbox", "any", "tests"}),
        (Mode.SIMULATED, {"any", "tests"}),
    ],
)
def test_a_message_goes_only_where_it_is_meant_to(mode: Mode, names: set[str]) -> None:
    channel = Channel(
        live=Capabilities(LIVE),
        sandbox=Capabilities(LIVE_AND_TEST),
        any=Capabilities(ANY_MODE),
        tests=Capabilities(NEVER_LIVE),
    )
    assert set(by(channel.sort(*[sms(mode=mode) for _ in range(100)]))) == names


def test_no_outage_leads_a_live_message_to_a_provider_for_tests() -> None:
    channel = Channel(live=Capabilities(LIVE), tests=Capabilities(NEVER_LIVE))
    channel.breaks("live")
    assert len(channel.sort(sms(), sms()).waiting) == 2, "in their order, until it is back"
    assert by(channel.sort(sms(), sms(mode=Mode.SIMULATED))) == ["tests"]


@pytest.mark.parametrize("mode", [Mode.TEST, Mode.SIMULATED])
def test_what_is_not_meant_to_arrive_reaches_no_live_provider_even_as_the_last(mode: Mode) -> None:
    channel = Channel(live=Capabilities(LIVE))
    ((_, choice),) = channel.sort(replace(sms(), mode=mode)).candidates
    assert is_no_provider(choice)
