"""The ledger in PostgreSQL: who may make which call, and what came of it.

The dispatcher claims a batch of messages before any call and settles a batch after; the primary key
of `consumers.attempt` decides who may call, however many processes hold the same message. Rows are
only ever inserted. Times that more than one process compares are the database's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translated
from consumers.ledger import statements
from consumers.ledger.decisions import AttemptHistory, LedgerEntry
from consumers.ledger.delivery import ORDINARY, Delivery, Lease
from consumers.suppression import normal
from schemas.events import ProviderResponse
from schemas.vocabulary import Channel, Reason, Status, SuppressionReason

LEASE_SECONDS = 60.0

# Of a message's recipients those who must not be reached, and why.
Listed = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A wish to make attempt `attempt` of a message through `provider`.

    Args:
        repeats_doubt: the attempt before was a call whose answer was lost.
        is_wish: it is the attempt that the delivery's wish asks for.
    """

    delivery: Delivery
    attempt: int
    provider: str
    repeats_doubt: bool = False
    is_resend_request: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt came to, as the ledger keeps it.

    Args:
        retry_after: seconds until another attempt; None when there will be none.
        is_resend: a person asked for it; it does not tell how soon messages are sent.
        suppress: why the recipient must not be reached again, where the provider said so.
        gone: of several recipients those who are not there any more.
    """

    delivery: Delivery
    attempt: int
    status: Status
    reason: Reason
    response: ProviderResponse
    occurred_at: datetime
    retry_after: float | None = None
    is_resend: bool = False
    suppress: SuppressionReason | None = None
    invalid_recipients: tuple[str, ...] = field(default=(), repr=False)


class Ledger:
    """One channel's view of the ledger, for one process.

    Every method raises `DatabaseUnavailableError` when nothing was recorded and the call may be
    repeated.
    """

    def __init__(self, pool: AsyncConnectionPool, *, channel: Channel, owner: UUID) -> None:
        self._pool, self._channel, self._owner = pool, channel, owner

    async def claim(self, claims: Sequence[Claim]) -> dict[UUID, Listed]:
        """Claim attempts in one statement.

        Returns:
            The messages that are now ours, each with those of its recipients who must not be
            reached, and why.
        """
        rows = {c.delivery.message.id: c for c in claims}
        parameters = (
            list(rows),
            [c.attempt for c in rows.values()],
            [c.delivery.message.tenant for c in rows.values()],
            [c.provider for c in rows.values()],
            [c.delivery.value if c.attempt == 1 else None for c in rows.values()],
            [normal(self._channel, c.delivery.message.recipient) for c in rows.values()],
            [c.repeats_doubt for c in rows.values()],
            [c.delivery.resend_request if c.is_resend_request else None for c in rows.values()],
            self._channel,
            self._owner,
            *self._further(claims),
            self._channel,
        )
        ours: dict[UUID, dict[str, str]] = {}
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statements.CLAIM, parameters)
                for message_id, recipient, reason, since in await cursor.fetchall():
                    listed = ours.setdefault(message_id, {})
                    if recipient is not None:
                        listed[recipient] = f"{reason} since {since:%Y-%m-%d}"
        return dict(ours)

    def _further(self, claims: Sequence[Claim]) -> tuple[list[UUID], list[str]]:
        """Recipients beside the first: a person's other devices."""
        pairs = [
            (claim.delivery.message.id, normal(self._channel, recipient))
            for claim in claims
            for recipient in claim.delivery.message.recipients[1:]
        ]
        return [message_id for message_id, _ in pairs], [recipient for _, recipient in pairs]

    async def look_up(self, deliveries: Sequence[Delivery]) -> dict[UUID, AttemptHistory]:
        """What is known of each message that has an attempt."""
        columns = [d.message.id for d in deliveries], [d.resend_request for d in deliveries]
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statements.LOOK_UP, columns)
                rows = await cursor.fetchall()
        known: dict[UUID, AttemptHistory] = {}
        for (
            message_id,
            *row,
            cycle_start,
            uncounted_attempts,
            is_resend_request,
            doubt,
        ) in rows:  # the newest comes last
            entry, before = replace(entry_of(row), in_doubt_with=doubt), known.get(message_id)
            resend_request = (
                entry if is_resend_request else before.resend_request if before else None
            )
            known[message_id] = AttemptHistory(
                newest=entry,
                cycle_start=cycle_start,
                resend_request=resend_request,
                uncounted_attempts=uncounted_attempts,
            )
        return known

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Record what attempts came to, queue what is tried again, and remember whom a provider
        says must not be reached, in one transaction."""
        deferred = [
            (s.delivery, ORDINARY, s.retry_after) for s in settlements if s.retry_after is not None
        ]
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(statements.SETTLE, _columns(settlements))
                if deferred:
                    await self._defer(connection, deferred)
                if unwanted := [row for s in settlements for row in self._unwanted(s)]:
                    await connection.execute(
                        statements.SUPPRESS,
                        (self._channel, *map(list, zip(*unwanted, strict=True))),
                    )

    async def step_aside(self, deliveries: Sequence[tuple[Delivery, float]]) -> None:
        """Put messages aside, each for so many seconds, with no outcome; a wish stays that wish."""
        rows = [
            (delivery, delivery.resend_request or ORDINARY, wait) for delivery, wait in deliveries
        ]
        with translated():
            async with self._pool.connection() as connection:
                await self._defer(connection, rows)

    async def lease_due(self, most: int) -> list[tuple[Lease, bytes]]:
        """Take messages that are due, oldest first. No other process gets them within
        `LEASE_SECONDS`."""
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    statements.LEASE, (LEASE_SECONDS, self._channel, most)
                )
                rows = await cursor.fetchall()
        return [(Lease(*lease), bytes(value)) for *lease, value in rows]

    async def requeue_abandoned_claims(
        self, *, claimed_within: float, older_than: float, even_of_the_living: float
    ) -> int:
        """Queue messages whose claim was left without an outcome, whoever made it; how many.

        The topic usually brings such a message again. Not so when the broker lost what it held.

        Args:
            claimed_within: seconds to look back; older_than: seconds after which no call runs.
            even_of_the_living: seconds after which the claims of processes that run are taken too.
        """
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    statements.ORPHANS,
                    (self._channel, claimed_within, older_than, even_of_the_living),
                )
                return cursor.rowcount

    def _unwanted(self, settled: Settlement) -> Iterator[tuple[str, str, SuppressionReason, UUID]]:
        """A row for each recipient who must not be reached again."""
        message = settled.delivery.message
        found = dict.fromkeys(settled.invalid_recipients, SuppressionReason.HARD_BOUNCE)
        if settled.suppress is not None:
            found[message.recipient] = settled.suppress
        for recipient, reason in found.items():
            yield message.tenant, normal(self._channel, recipient), reason, message.id

    async def finish(self, leases: Sequence[Lease]) -> None:
        """Drop rows of the deferred queue that are settled. One deferred again stays, and so does
        one that was leased again since: then another worker relies on it."""
        columns = (
            [lease.message_id for lease in leases],
            [lease.nonce for lease in leases],
            [lease.until for lease in leases],
        )
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(statements.FINISH, columns)

    async def _defer(
        self, connection: AsyncConnection, rows: Sequence[tuple[Delivery, UUID, float]]
    ) -> None:
        last = {(d.message.id, nonce): (d.value, wait) for d, nonce, wait in rows}
        ids, nonces = [key[0] for key in last], [key[1] for key in last]
        values, waits = [v for v, _ in last.values()], [w for _, w in last.values()]
        await connection.execute(statements.DEFER, (self._channel, ids, nonces, values, waits))


def _columns(settlements: Sequence[Settlement]) -> tuple[list[object], ...]:
    return (
        [s.delivery.message.id for s in settlements],
        [s.attempt for s in settlements],
        [s.status for s in settlements],
        [s.reason for s in settlements],
        [_clean(s.response.provider_message_id) for s in settlements],
        [_clean(s.response.code) for s in settlements],
        [_clean(s.response.detail) for s in settlements],
        [_clean(s.response.raw) for s in settlements],
        [s.occurred_at for s in settlements],
    )


def _clean(text: str | None) -> str | None:
    """PostgreSQL's text holds no NUL, and a provider may say anything."""
    return None if text is None else text[:4096].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def entry_of(row: Sequence[object]) -> LedgerEntry:
    """Return the entry in a row: attempt, provider, age, status, reason, time, answer."""
    attempt, provider, age, status, reason, occurred_at, *response = row
    return LedgerEntry(
        attempt=int(str(attempt)),
        provider=str(provider),
        age_seconds=float(str(age)),
        status=None if status is None else Status(str(status)),
        reason=None if reason is None else Reason(str(reason)),
        occurred_at=occurred_at if isinstance(occurred_at, datetime) else None,
        response=ProviderResponse(**dict(zip(_RESPONSE_FIELDS, response, strict=True))),  # type: ignore[arg-type]
    )


_RESPONSE_FIELDS = ("provider_message_id", "code", "detail", "raw")
