"""Selection of a provider: by platform and mode, and what happens to the other messages."""

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


class SelectorUnderTest:
    """A router and a selector over providers by name, each with its capabilities."""

    def __init__(self, has_room: bool = True, **providers: Capabilities) -> None:
        routes = [Route(Named(name), 100, capabilities=takes) for name, takes in providers.items()]
        self.router = Router(
            routes, POLICY, source=random.Random(7), limits=None if has_room else Exhausted()
        )
        self._selector = Selector(self.router, RetryPolicy(), lambda: NOW)

    def break_providers(self, *names: str) -> None:
        for name in names:
            self.router.record_outcome(name, BROKEN, seconds=0.1, now=NOW.timestamp())

    def select(self, *messages: Message) -> Selection:
        return self._selector.select([Delivery(m, b"", Lease(m.id)) for m in messages])


def names(selection: Selection) -> list[str]:
    return [choice.provider.name for _, choice in selection.candidates]


def test_each_push_message_goes_to_a_provider_of_its_platform() -> None:
    selector = SelectorUnderTest(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    platforms = [Platform.FCM, Platform.APNS] * 20
    assert names(selector.select(*map(push, platforms))) == [
        str(platform) for platform in platforms
    ]
    assert set(names(selector.select(*[push(None) for _ in range(40)]))) == {"fcm", "apns"}


def test_a_message_for_a_platform_without_provider_has_no_provider() -> None:
    selector = SelectorUnderTest(fcm=TO[Platform.FCM])
    selection = selector.select(push(Platform.APNS), push(Platform.FCM))
    (_, no_provider), (_, choice) = selection.candidates
    assert is_no_provider(no_provider)
    assert no_provider.why == "no provider of the channel sends to apns"
    assert choice.provider.name == "fcm"


def test_the_outage_of_one_platform_does_not_delay_others() -> None:
    selector = SelectorUnderTest(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    selector.break_providers("fcm")
    selection = selector.select(*[push(Platform.FCM) for _ in range(3)], push(Platform.APNS))
    assert names(selection) == ["apns"]
    assert [seconds for _, seconds in selection.deferrals] == [30, 30, 30]


def test_a_message_that_expired_meanwhile_is_ended() -> None:
    selector = SelectorUnderTest(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    selector.break_providers("fcm")
    late = push(Platform.FCM, expires_at=NOW - timedelta(seconds=1))
    ((_, choice),) = selector.select(late).candidates
    assert is_no_provider(choice)


def test_messages_wait_in_order_while_no_provider_can_be_called() -> None:
    selector = SelectorUnderTest(fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    selector.break_providers("fcm", "apns")
    messages = [push(Platform.FCM), push(Platform.APNS)]
    assert [d.message for d in selector.select(*messages).waiting] == messages
    alike = SelectorUnderTest(a=Capabilities(), b=Capabilities())
    alike.break_providers("a", "b")
    assert len(alike.select(sms(), sms(), sms()).waiting) == 3


def test_messages_wait_for_a_rate_limit_and_are_not_deferred() -> None:
    selector = SelectorUnderTest(has_room=False, fcm=TO[Platform.FCM], apns=TO[Platform.APNS])
    assert len(selector.select(push(Platform.FCM), push(Platform.APNS)).waiting) == 2


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.LIVE, {"live", "sandbox", "any"}),
        (Mode.TEST, {"sandbox", "any", "tests"}),
        (Mode.SIMULATED, {"any", "tests"}),
    ],
)
def test_a_message_goes_only_to_providers_of_its_mode(mode: Mode, expected: set[str]) -> None:
    selector = SelectorUnderTest(
        live=Capabilities(LIVE),
        sandbox=Capabilities(LIVE_AND_TEST),
        any=Capabilities(ANY_MODE),
        tests=Capabilities(NEVER_LIVE),
    )
    assert set(names(selector.select(*[sms(mode=mode) for _ in range(100)]))) == expected


def test_a_live_message_never_goes_to_a_test_provider() -> None:
    selector = SelectorUnderTest(live=Capabilities(LIVE), tests=Capabilities(NEVER_LIVE))
    selector.break_providers("live")
    assert len(selector.select(sms(), sms()).waiting) == 2, "in their order, until it is back"
    assert names(selector.select(sms(), sms(mode=Mode.SIMULATED))) == ["tests"]


@pytest.mark.parametrize("mode", [Mode.TEST, Mode.SIMULATED])
def test_a_test_message_never_goes_to_a_live_provider(mode: Mode) -> None:
    selector = SelectorUnderTest(live=Capabilities(LIVE))
    ((_, choice),) = selector.select(replace(sms(), mode=mode)).candidates
    assert is_no_provider(choice)
