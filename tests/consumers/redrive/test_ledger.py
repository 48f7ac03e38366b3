"""Resend requests in the ledger: each is one attempt and none replaces a retry.

A cancellation and a claim exclude each other.
"""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

from psycopg_pool import AsyncConnectionPool

from consumers.ledger.delivery import RETRY_NONCE, Delivery, Lease
from consumers.ledger.store import Claim, Ledger
from consumers.ledger.unpublished import UnpublishedEvents, Window
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers.redrive.conftest import Play, Session, settlement


def with_request(delivery: Delivery, nonce: UUID) -> Delivery:
    return replace(delivery, source=Lease(delivery.message.id, nonce))


def claim(delivery: Delivery, attempt: int) -> Claim:
    resend_request = delivery.resend_request is not None
    return Claim(
        delivery=delivery, attempt=attempt, provider="simulated", is_resend_request=resend_request
    )


async def test_the_attempt_of_a_resend_request_is_claimed_once(ledger: Ledger, play: Play) -> None:
    resend_request = with_request(await play(Status.FAILED, Reason.REJECTED), uuid4())
    assert await ledger.claim([claim(resend_request, 2)])
    assert not await ledger.claim([claim(resend_request, 3)])
    assert await ledger.claim([claim(with_request(resend_request, uuid4()), 3)])


async def test_the_ledger_has_the_attempt_of_the_request_and_the_start_of_its_send_cycle(
    ledger: Ledger, play: Play
) -> None:
    first = await play(Status.FAILED, Reason.REJECTED)
    resend_request, other = with_request(first, uuid4()), with_request(first, uuid4())
    await ledger.claim([claim(resend_request, 2)])
    await ledger.settle([settlement(resend_request, 2, Status.SENDING, reason=Reason.TIMEOUT)])
    await ledger.claim([claim(first, 3)])
    [known] = (await ledger.look_up([resend_request])).values()
    assert known.resend_request is not None
    assert (known.resend_request.attempt, known.newest.attempt, known.cycle_start) == (2, 3, 2)
    [known] = (await ledger.look_up([other])).values()
    assert (known.resend_request, known.newest.attempt, known.counted_attempts) == (None, 3, 2)


async def test_resend_requests_and_a_retry_wait_side_by_side(ledger: Ledger, play: Play) -> None:
    retried = await play(Status.SENDING, Reason.TIMEOUT, retry_after=0.0)
    requests = [with_request(retried, uuid4()) for _ in range(2)]
    await ledger.defer([(resend_request, 0.0) for resend_request in requests])
    leases = [lease for lease, _ in await ledger.lease_due(10)]
    nonces = {RETRY_NONCE, *(resend_request.resend_request for resend_request in requests)}
    assert {lease.nonce for lease in leases} == nonces
    await ledger.finish([lease for lease in leases if lease.nonce == RETRY_NONCE])
    await ledger.defer([(requests[0], 0.0)])
    await ledger.finish(
        [
            Lease(resend_request.message.id, resend_request.resend_request or RETRY_NONCE)
            for resend_request in requests
        ]
    )
    assert [lease.nonce for lease, _ in await ledger.lease_due(10)] == [requests[0].resend_request]


async def test_a_resend_whose_first_event_was_lost_is_unpublished(
    ledger: Ledger, play: Play, database: Session, pool: AsyncConnectionPool
) -> None:
    unpublished = UnpublishedEvents(pool, channel=Channel.SMS)
    window = Window(oldest=3600, newest=60)
    first = await play(Status.FAILED, Reason.REJECTED)
    await ledger.claim([claim(with_request(first, uuid4()), 2)])
    database.execute("UPDATE consumers.attempt SET claimed_at = now() - interval '2 min'")
    lost = await unpublished.outcomes(window, limit=10)
    assert [(entry.attempt, entry.status, entry.reason) for _, _, entry in lost] == [
        (2, Status.SENDING, Reason.RESENT)
    ]
    database.execute(
        "INSERT INTO audit.history (message_id, id, tenant, channel, status, reason, attempt,"
        " occurred_at) VALUES (%s, gen_random_uuid(), 'acme', 'sms', 'sending', 'resent', 2,"
        " now())",
        (first.message.id,),
    )
    assert await unpublished.outcomes(window, limit=10) == []


async def test_of_a_claim_and_a_cancellation_at_the_same_time_one_wins(
    ledger: Ledger, play: Play, pool: AsyncConnectionPool, database: Session
) -> None:
    async def withdraw(message_id: UUID) -> bool:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT consumers.withdraw(%s, 'acme', 'sms')", (message_id,)
            )
            return await cursor.fetchone() == (1,)

    outcomes = set()
    for turn in range(30):
        delivery = await play(Status.SENDING, Reason.TIMEOUT, retry_after=0.0)
        rivals = [ledger.claim([claim(delivery, 2)]), withdraw(delivery.message.id)]
        if turn % 2:
            rivals.reverse()
        won = [bool(found) for found in await asyncio.gather(*rivals)]
        assert sorted(won) == [False, True]
        outcomes.add(won[turn % 2])
    assert outcomes == {True, False}
    cancelled = database.execute(
        "SELECT count(*) FROM consumers.deferred d JOIN consumers.outcome o USING (message_id)"
        " WHERE o.status = 'cancelled'"
    ).fetchone()
    assert cancelled == (0,)
