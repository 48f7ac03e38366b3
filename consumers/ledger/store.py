"""The ledger in PostgreSQL: it decides which process may make a call, and keeps the outcomes.

The pipeline claims a batch of messages before any call, and settles a batch after. The primary key
of `consumers.attempt` decides which process may call, however many processes hold the same message.
Rows are only ever inserted. Times that several processes compare are the database's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from consumers.ledger import statements
from consumers.ledger.decisions import AttemptHistory, LedgerEntry
from consumers.ledger.delivery import RETRY_NONCE, Delivery, Lease
from consumers.suppression import normal
from schemas.events import ProviderResponse
from schemas.vocabulary import Channel, Reason, Status, SuppressionReason

LEASE_SECONDS = 60.0
MAX_TEXT = 4096  # characters of each text that a provider answers

# The recipients of a message who are on the suppression list, each with the reason.
Suppressions = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A request to make attempt `attempt` of a message through `provider`.

    Args:
        repeats_doubt: the attempt before it was a call whose answer was lost.
        is_resend_request: the attempt is made for the delivery's resend request.
    """

    delivery: Delivery
    attempt: int
    provider: str
    repeats_doubt: bool = False
    is_resend_request: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The outcome of an attempt, as the ledger keeps it.

    Args:
        retry_after: seconds until another attempt; None if there will be none.
        is_resend: a person requested it, so its time does not count for the service level.
        suppress: why the recipient must not be reached again, if the provider says so.
        invalid_recipients: of several recipients, those that do not exist any more.
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

    Every method raises `DatabaseUnavailableError` if nothing was recorded as far as is known. The
    call may then be repeated.

    Args:
        owner: the id of the process.
    """

    def __init__(self, pool: AsyncConnectionPool, *, channel: Channel, owner: UUID) -> None:
        self._pool = pool
        self._channel = channel
        self._owner = owner

    async def claim(self, claims: Sequence[Claim]) -> dict[UUID, Suppressions]:
        """Claim attempts in one statement.

        Returns:
            The messages that are claimed, each with those of its recipients who are on the
            suppression list.
        """
        by_id = {c.delivery.message.id: c for c in claims}
        parameters = (
            list(by_id),
            [c.attempt for c in by_id.values()],
            [c.delivery.message.tenant for c in by_id.values()],
            [c.provider for c in by_id.values()],
            [c.delivery.value if c.attempt == 1 else None for c in by_id.values()],
            [normal(self._channel, c.delivery.message.recipient) for c in by_id.values()],
            [c.repeats_doubt for c in by_id.values()],
            [c.delivery.resend_request if c.is_resend_request else None for c in by_id.values()],
            self._channel,
            self._owner,
            *self._other_recipients(claims),
            self._channel,
        )
        claimed: dict[UUID, dict[str, str]] = {}
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statements.CLAIM, parameters)
                rows = await cursor.fetchall()
        for message_id, recipient, reason, since in rows:
            suppressions = claimed.setdefault(message_id, {})
            if recipient is not None:
                suppressions[recipient] = f"{reason} since {since:%Y-%m-%d}"
        return dict(claimed)

    def _other_recipients(self, claims: Sequence[Claim]) -> tuple[list[UUID], list[str]]:
        """Return the recipients after the first of each message: a person's other devices."""
        pairs = [
            (claim.delivery.message.id, normal(self._channel, recipient))
            for claim in claims
            for recipient in claim.delivery.message.recipients[1:]
        ]
        return [message_id for message_id, _ in pairs], [recipient for _, recipient in pairs]

    async def look_up(self, deliveries: Sequence[Delivery]) -> dict[UUID, AttemptHistory]:
        """Return what the ledger holds about each message that has an attempt."""
        columns = [d.message.id for d in deliveries], [d.resend_request for d in deliveries]
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statements.LOOK_UP, columns)
                rows = await cursor.fetchall()
        histories: dict[UUID, AttemptHistory] = {}
        for message_id, *columns_of_entry, start, uncounted, is_resend_request, doubt in rows:
            # The newest attempt of a message comes last.
            entry = replace(entry_of(columns_of_entry), in_doubt_with=doubt)
            earlier = histories.get(message_id)
            resend_request = earlier.resend_request if earlier else None
            histories[message_id] = AttemptHistory(
                newest=entry,
                cycle_start=start,
                resend_request=entry if is_resend_request else resend_request,
                uncounted_attempts=uncounted,
            )
        return histories

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Record outcomes in one transaction.

        It also queues what is tried again, and adds to the suppression list the recipients who must
        not be reached again.
        """
        retries = [
            (s.delivery, RETRY_NONCE, s.retry_after)
            for s in settlements
            if s.retry_after is not None
        ]
        suppressions = [row for s in settlements for row in self._suppression_rows(s)]
        with translate_errors():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(statements.SETTLE, _columns(settlements))
                if retries:
                    await self._queue(connection, retries)
                if suppressions:
                    columns = map(list, zip(*suppressions, strict=True))
                    await connection.execute(statements.SUPPRESS, (self._channel, *columns))

    async def defer(self, deferrals: Sequence[tuple[Delivery, float]]) -> None:
        """Queue messages without an outcome, each for so many seconds.

        A delivery that is for a resend request stays for that request.
        """
        rows = [
            (delivery, delivery.resend_request or RETRY_NONCE, wait) for delivery, wait in deferrals
        ]
        with translate_errors():
            async with self._pool.connection() as connection:
                await self._queue(connection, rows)

    async def lease_due(self, limit: int) -> list[tuple[Lease, bytes]]:
        """Lease messages that are due, oldest first.

        No other process gets them within `LEASE_SECONDS`.
        """
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    statements.LEASE, (LEASE_SECONDS, self._channel, limit)
                )
                rows = await cursor.fetchall()
        return [(Lease(*lease), bytes(value)) for *lease, value in rows]

    async def requeue_abandoned_claims(
        self, *, claimed_within: float, older_than: float, running_owner_seconds: float
    ) -> int:
        """Queue messages whose claim was left without an outcome, whichever process made it.

        The topic usually brings such a message again, but not if the broker lost its records.

        Args:
            claimed_within: seconds to look back.
            older_than: seconds after which no call runs.
            running_owner_seconds: seconds after which the claims of running processes are queued
                too.

        Returns:
            How many messages were queued.
        """
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    statements.REQUEUE_ABANDONED,
                    (self._channel, claimed_within, older_than, running_owner_seconds),
                )
                return cursor.rowcount

    async def finish(self, leases: Sequence[Lease]) -> None:
        """Delete rows of the deferred queue whose messages are settled.

        A row that was deferred again stays. So does one that was leased again since, because
        another process now relies on it.
        """
        columns = (
            [lease.message_id for lease in leases],
            [lease.nonce for lease in leases],
            [lease.until for lease in leases],
        )
        with translate_errors():
            async with self._pool.connection() as connection:
                await connection.execute(statements.FINISH, columns)

    def _suppression_rows(
        self, settlement: Settlement
    ) -> Iterator[tuple[str, str, SuppressionReason, UUID]]:
        """Yield a row for each recipient who must not be reached again."""
        message = settlement.delivery.message
        reasons = dict.fromkeys(settlement.invalid_recipients, SuppressionReason.HARD_BOUNCE)
        if settlement.suppress is not None:
            reasons[message.recipient] = settlement.suppress
        for recipient, reason in reasons.items():
            yield message.tenant, normal(self._channel, recipient), reason, message.id

    async def _queue(
        self, connection: AsyncConnection, rows: Sequence[tuple[Delivery, UUID, float]]
    ) -> None:
        """Write rows to the deferred queue; of several for the same key the last one counts."""
        by_key = {(d.message.id, nonce): (d.value, wait) for d, nonce, wait in rows}
        ids, nonces = [key[0] for key in by_key], [key[1] for key in by_key]
        values, waits = [v for v, _ in by_key.values()], [w for _, w in by_key.values()]
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
    """Return what PostgreSQL can store of a provider's text: cut, and without NUL."""
    return None if text is None else text[:MAX_TEXT].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def entry_of(row: Sequence[object]) -> LedgerEntry:
    """Return the entry in a row: attempt, provider, age, status, reason, time, response."""
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
