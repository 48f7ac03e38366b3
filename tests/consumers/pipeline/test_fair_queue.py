"""Turns of priorities and tenants, case by case; `tests.properties` tries every arrival."""

from collections import Counter

from consumers.ledger.delivery import Delivery, Offset
from consumers.pipeline.fair_queue import TURNS, FairQueue
from consumers.pipeline.recipient_queues import RecipientQueues
from schemas.vocabulary import Priority
from tests.consumers.harness import sms


def delivery(
    tenant: str, priority: Priority, number: int = 0, *, to: str = "+12025550199"
) -> Delivery:
    message = sms(to, tenant=tenant, priority=priority)
    return Delivery(message, b"", Offset(("comms.sms", 0), number, 1))


def names(taken: list[Delivery]) -> list[tuple[str, Priority]]:
    return [(d.message.tenant, d.message.priority) for d in taken]


def test_one_tenants_bulk_does_not_delay_anothers_high() -> None:
    queue = FairQueue()
    for number in range(500):
        queue.add(delivery("many", Priority.BULK, number))
    assert names(queue.take(3)) == [("many", Priority.BULK)] * 3
    queue.add(delivery("few", Priority.HIGH))
    assert names(queue.take(1)) == [("few", Priority.HIGH)]


def test_tenants_of_one_priority_alternate() -> None:
    queue = FairQueue()
    for number in range(100):
        queue.add(delivery("many", Priority.NORMAL, number))
    for number in range(3):
        queue.add(delivery("few", Priority.NORMAL, number))
    assert Counter(t for t, _ in names(queue.take(6))) == {"many": 3, "few": 3}


def test_no_priority_starves_under_a_flood_of_a_higher_priority() -> None:
    queue = FairQueue()
    for priority in Priority:
        for number in range(200):
            queue.add(delivery("acme", priority, number))
    round_size = sum(TURNS.values())
    assert Counter(p for _, p in names(queue.take(3 * round_size))) == {
        priority: 3 * turns for priority, turns in TURNS.items()
    }


def test_messages_that_could_not_begin_are_next_again() -> None:
    queue = FairQueue()
    for number in range(5):
        queue.add(delivery("acme", Priority.NORMAL, number))
    taken = queue.take(3)
    for head in reversed(taken):
        queue.add(head, first=True)
    assert queue.take(3) == taken


def test_removing_keeps_the_rest_in_order() -> None:
    queue = FairQueue()
    deliveries = [delivery("acme", Priority.NORMAL, number) for number in range(6)]
    for item in deliveries:
        queue.add(item)
    assert queue.remove(lambda d: d in deliveries[1:4]) == deliveries[1:4]
    assert len(queue) == 3
    assert queue.take(9) == [deliveries[0], deliveries[4], deliveries[5]]


def test_a_message_before_an_urgent_message_is_urgent_too() -> None:
    queues = RecipientQueues()
    for number in range(50):
        queues.add(delivery("acme", Priority.BULK, number, to=f"+1202555{number:04d}"))
    first = delivery("acme", Priority.BULK, to="+12025559999")
    queues.add(first)
    for number in range(50):
        queues.add(delivery("acme", Priority.NORMAL, number, to=f"+1202666{number:04d}"))
    urgent = delivery("acme", Priority.HIGH, to="+12025559999")
    queues.add(urgent)
    assert queues.take(1) == [first]
    queues.put_back([first])
    assert queues.take(1) == [first]
    queues.release(first)
    assert queues.take(1) == [urgent]
    assert len(queues) == 100


def test_a_discarded_message_is_not_taken() -> None:
    queues = RecipientQueues()
    kept, removed = (
        delivery("acme", Priority.BULK, 1),
        delivery("acme", Priority.BULK, 2, to="+12025550122"),
    )
    queues.add(kept)
    queues.add(removed)
    queues.add(delivery("acme", Priority.HIGH, 3, to="+12025550122"))
    discarded = queues.discard(lambda d: d.source != kept.source)
    assert (len(discarded), removed in discarded) == (2, True)
    assert queues.take(5) == [kept]
