"""The ledger in PostgreSQL: who may make which call, and what came of it.

The dispatcher claims a batch of messages before any call and settles a batch after; the primary key
of `consumers.attempt` decides who may call, however many processes hold the same message. Rows are
only ever inserted. Times that more than one process compares are the database's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from comms.database import translated
from consumers.delivery import ORDINARY, Delivery, Lease
from consumers.suppression import SuppressionReason, normal
from consumers.verdicts import Known, LedgerEntry
from schemas.events import ProviderWords
from schemas.vocabulary import Channel, Reason, Status

LEASE_SECONDS = 60.0

# One statement for all: who may call, who must not be called, and that the call before is in doubt
# where this one repeats it. So the doubt is on record before a second call can be made.
_CLAIM = """
WITH wish AS (
    SELECT * FROM unnest(%b::uuid[], %b::smallint[], %b::text[], %b::text[], %b::bytea[],
                         %b::text[], %b::boolean[], %b::uuid[])
        AS w (id, attempt, tenant, provider, value, recipient, repeats_doubt, nonce)
), ours AS (
    INSERT INTO consumers.attempt
        (message_id, attempt, tenant, channel, provider, owner, claimed_at, value, nonce)
    SELECT id, attempt, tenant, %s, provider, %s, clock_timestamp(), value, nonce FROM wish
    ON CONFLICT DO NOTHING
    RETURNING message_id
), doubt AS (
    INSERT INTO consumers.outcome (message_id, attempt, status, reason, detail, occurred_at)
    SELECT id, attempt - 1, 'sending', 'ambiguous', 'its worker was lost in the call',
           clock_timestamp()
    FROM ours JOIN wish ON wish.id = ours.message_id WHERE repeats_doubt
    ON CONFLICT DO NOTHING
)
SELECT ours.message_id, s.reason, s.created_at
FROM ours JOIN wish ON wish.id = ours.message_id
LEFT JOIN consumers.suppression s
    ON s.tenant = wish.tenant AND s.channel = %s AND s.recipient = wish.recipient
"""

# The newest attempt of each message, the one its chapter began with, and, before that row, the
# attempt that was made for the wish in hand.
_LOOK_UP = """
SELECT a.message_id, a.attempt, a.provider,
    extract(epoch FROM clock_timestamp() - a.claimed_at)::float8,
    o.status, o.reason, o.occurred_at, o.provider_message_id, o.code, o.detail, o.response,
    coalesce(a.opened, 1),
    (SELECT count(*) FROM consumers.outcome x WHERE x.message_id = a.message_id
     AND x.attempt >= coalesce(a.opened, 1) AND x.reason = 'account_fault'),
    a.nonce = w.nonce
FROM unnest(%b::uuid[], %b::uuid[]) AS w (id, nonce)
CROSS JOIN LATERAL (
    SELECT *, max(attempt) FILTER (WHERE nonce IS NOT NULL) OVER () AS opened,
           max(attempt) OVER () AS newest
    FROM consumers.attempt WHERE message_id = w.id
) a
LEFT JOIN consumers.outcome o USING (message_id, attempt)
WHERE a.attempt = a.newest OR a.nonce = w.nonce
ORDER BY a.message_id, a.attempt
"""

_SETTLE = """
INSERT INTO consumers.outcome
    (message_id, attempt, status, reason, provider_message_id, code, detail, response, occurred_at)
SELECT * FROM unnest(%b::uuid[], %b::smallint[], %b::text[], %b::text[], %b::text[], %b::text[],
                     %b::text[], %b::text[], %b::timestamptz[])
ON CONFLICT DO NOTHING
"""

_SUPPRESS = """
INSERT INTO consumers.suppression (channel, tenant, recipient, reason, message_id)
SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::text[], %b::uuid[])
ON CONFLICT DO NOTHING
"""

_DEFER = """
INSERT INTO consumers.deferred (message_id, nonce, channel, value, due_at)
SELECT id, nonce, %s, value, clock_timestamp() + make_interval(secs => wait)
FROM unnest(%b::uuid[], %b::uuid[], %b::bytea[], %b::float8[]) AS d (id, nonce, value, wait)
ON CONFLICT (message_id, nonce) DO UPDATE SET due_at = excluded.due_at, leased_until = '-infinity'
"""

_LEASE = """
UPDATE consumers.deferred SET leased_until = clock_timestamp() + make_interval(secs => %s)
WHERE (message_id, nonce) IN (
    SELECT message_id, nonce FROM consumers.deferred
    WHERE channel = %s AND due_at <= clock_timestamp() AND leased_until < clock_timestamp()
    ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING message_id, nonce, value
"""

# One deferred again stays.
_FINISH = """
DELETE FROM consumers.deferred
WHERE (message_id, nonce) IN (SELECT * FROM unnest(%b::uuid[], %b::uuid[]))
  AND leased_until <> '-infinity'
"""

# A claim with no outcome, older than any call can last, whose message waits nowhere. One whose
# owner lives is left to it for longer: it may only be waiting for the database, as we were.
_ORPHANS = """
INSERT INTO consumers.deferred (message_id, channel, value, due_at)
SELECT a.message_id, a.channel, first.value, clock_timestamp()
FROM consumers.attempt a
JOIN consumers.attempt first ON first.message_id = a.message_id AND first.attempt = 1
WHERE a.channel = %s AND first.value IS NOT NULL
  AND a.claimed_at BETWEEN clock_timestamp() - make_interval(secs => %s)
                       AND clock_timestamp() - make_interval(secs => %s)
  AND (a.claimed_at < clock_timestamp() - make_interval(secs => %s)
       OR NOT EXISTS (SELECT FROM consumers.worker w
                      WHERE w.owner = a.owner AND w.seen_at > clock_timestamp() - interval '1 min'))
  AND NOT EXISTS (SELECT FROM consumers.attempt later
                  WHERE later.message_id = a.message_id AND later.attempt > a.attempt)
  AND NOT EXISTS (SELECT FROM consumers.outcome o
                  WHERE o.message_id = a.message_id AND o.attempt = a.attempt)
ON CONFLICT DO NOTHING
"""

# What the audit store has not heard of (outcomes, beginnings of resends, receipts) although it has
# had its time: a minute, or less where it has recorded everything that was published until now.
_HAS_HAD_ITS_TIME = """
least(clock_timestamp() - interval '5 seconds',
      greatest(clock_timestamp() - make_interval(secs => %(older_than)s),
               (SELECT min(caught_up_at) - interval '2 seconds' FROM audit.consumer_offset
                WHERE topic = 'comms.status')))
"""
_IN_QUESTION = f"""
BETWEEN clock_timestamp() - make_interval(secs => %(within)s) AND {_HAS_HAD_ITS_TIME}
"""
_UNTOLD = f"""
SELECT t.message_id, first.value, t.attempt, t.provider, 0::float8,
    t.status, t.reason, t.occurred_at, t.provider_message_id, t.code, t.detail, t.response
FROM (
    SELECT a.channel, a.provider, message_id, attempt, o.status, o.reason, o.occurred_at,
        o.provider_message_id, o.code, o.detail, o.response
    FROM consumers.outcome o JOIN consumers.attempt a USING (message_id, attempt)
    WHERE o.status <> 'cancelled' AND o.occurred_at {_IN_QUESTION}
    UNION ALL
    SELECT channel, provider, message_id, attempt, 'sending', 'resent', claimed_at,
        NULL, NULL, NULL, NULL
    FROM consumers.attempt WHERE nonce IS NOT NULL AND claimed_at {_IN_QUESTION}
) t
JOIN consumers.attempt first ON first.message_id = t.message_id AND first.attempt = 1
WHERE t.channel = %(channel)s AND first.value IS NOT NULL
  AND NOT EXISTS (SELECT FROM audit.history h WHERE h.message_id = t.message_id
                  AND h.attempt = t.attempt AND h.status = t.status AND h.reason = t.reason)
ORDER BY t.occurred_at LIMIT %(most)s
"""  # noqa: S608 - constants of this module

_UNTOLD_RECEIPTS = f"""
SELECT r.message_id, r.value FROM consumers.receipt r
WHERE r.channel = %(channel)s AND r.taken_at {_IN_QUESTION}
  AND NOT EXISTS (SELECT FROM audit.history h
                  WHERE h.message_id = r.message_id AND h.id = r.event_id)
ORDER BY r.taken_at LIMIT %(most)s
"""  # noqa: S608 - constants of this module


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
    is_wish: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt came to, as the ledger keeps it.

    Args:
        retry_after: seconds until another attempt; None when there will be none.
        is_resend: a person asked for it; it does not tell how soon messages are sent.
        suppress: why the recipient must not be reached again, where the provider said so.
    """

    delivery: Delivery
    attempt: int
    status: Status
    reason: Reason
    words: ProviderWords
    occurred_at: datetime
    retry_after: float | None = None
    is_resend: bool = False
    suppress: SuppressionReason | None = None


class Ledger:
    """One channel's view of the ledger, for one process.

    Every method raises `DatabaseUnavailableError` when nothing was recorded and the call may be
    repeated.
    """

    def __init__(self, pool: AsyncConnectionPool, *, channel: Channel, owner: UUID) -> None:
        self._pool, self._channel, self._owner = pool, channel, owner

    async def claim(self, claims: Sequence[Claim]) -> dict[UUID, str | None]:
        """Claim attempts in one statement.

        Returns:
            The messages that are now ours, each with why its recipient must not be reached, if so.
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
            [c.delivery.wish if c.is_wish else None for c in rows.values()],
            self._channel,
            self._owner,
            self._channel,
        )
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_CLAIM, parameters)
                return {
                    message_id: None if reason is None else f"{reason} since {since:%Y-%m-%d}"
                    for message_id, reason, since in await cursor.fetchall()
                }

    async def look_up(self, deliveries: Sequence[Delivery]) -> dict[UUID, Known]:
        """What is known of each message that has an attempt."""
        columns = [d.message.id for d in deliveries], [d.wish for d in deliveries]
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_LOOK_UP, columns)
                rows = await cursor.fetchall()
        known: dict[UUID, Known] = {}
        for message_id, *row, opened, excused, is_wish in rows:  # the newest attempt comes last
            entry, before = _entry(row), known.get(message_id)
            wish = entry if is_wish else before.wish if before else None
            known[message_id] = Known(newest=entry, opened=opened, wish=wish, excused=excused)
        return known

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Record what attempts came to, queue what is tried again, and remember whom a provider
        says must not be reached, in one transaction."""
        deferred = [
            (s.delivery, ORDINARY, s.retry_after) for s in settlements if s.retry_after is not None
        ]
        with translated():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(_SETTLE, _columns(settlements))
                if deferred:
                    await self._defer(connection, deferred)
                if unwanted := [s for s in settlements if s.suppress is not None]:
                    await connection.execute(_SUPPRESS, self._unwanted(unwanted))

    async def step_aside(self, deliveries: Sequence[tuple[Delivery, float]]) -> None:
        """Put messages aside, each for so many seconds, with no outcome; a wish stays that wish."""
        rows = [(delivery, delivery.wish or ORDINARY, wait) for delivery, wait in deliveries]
        with translated():
            async with self._pool.connection() as connection:
                await self._defer(connection, rows)

    async def lease_due(self, most: int) -> list[tuple[Lease, bytes]]:
        """Take messages that are due, oldest first. No other process gets them within
        `LEASE_SECONDS`."""
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_LEASE, (LEASE_SECONDS, self._channel, most))
                rows = await cursor.fetchall()
        return [(Lease(message_id, nonce), bytes(value)) for message_id, nonce, value in rows]

    async def adopt_orphans(
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
                    _ORPHANS, (self._channel, claimed_within, older_than, even_of_the_living)
                )
                return cursor.rowcount

    async def untold(
        self, *, settled_within: float, older_than: float, most: int
    ) -> list[tuple[UUID, bytes, LedgerEntry]]:
        """Settled attempts, and resends that began, whose event the audit store does not have,
        oldest first: the message's id, its encoded form, what is known.

        Args:
            settled_within: seconds to look back; older_than: seconds an event may be on its way.
        """
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    _UNTOLD, self._in_question(settled_within, older_than, most)
                )
                return [(row[0], bytes(row[1]), _entry(row[2:])) for row in await cursor.fetchall()]

    async def untold_receipts(
        self, *, taken_within: float, older_than: float, most: int
    ) -> list[tuple[UUID, bytes]]:
        """Receipts whose event the audit store does not have, oldest first: the message's id and
        the encoded event. Arguments as for `untold`."""
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    _UNTOLD_RECEIPTS, self._in_question(taken_within, older_than, most)
                )
                return [(row[0], bytes(row[1])) for row in await cursor.fetchall()]

    def _unwanted(self, settlements: Sequence[Settlement]) -> tuple[object, ...]:
        messages = [s.delivery.message for s in settlements]
        return (
            self._channel,
            [m.tenant for m in messages],
            [normal(self._channel, m.recipient) for m in messages],
            [s.suppress for s in settlements],
            [m.id for m in messages],
        )

    def _in_question(self, within: float, older_than: float, most: int) -> dict[str, object]:
        return {
            "channel": self._channel,
            "within": within,
            "older_than": older_than,
            "most": most,
        }

    async def finish(self, leases: Sequence[Lease]) -> None:
        """Drop rows of the deferred queue that are settled; one deferred again stays."""
        columns = [lease.message_id for lease in leases], [lease.nonce for lease in leases]
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(_FINISH, columns)

    async def _defer(
        self, connection: AsyncConnection, rows: Sequence[tuple[Delivery, UUID, float]]
    ) -> None:
        last = {(d.message.id, nonce): (d.value, wait) for d, nonce, wait in rows}
        ids, nonces = [key[0] for key in last], [key[1] for key in last]
        values, waits = [v for v, _ in last.values()], [w for _, w in last.values()]
        await connection.execute(_DEFER, (self._channel, ids, nonces, values, waits))


def _columns(settlements: Sequence[Settlement]) -> tuple[list[object], ...]:
    return (
        [s.delivery.message.id for s in settlements],
        [s.attempt for s in settlements],
        [s.status for s in settlements],
        [s.reason for s in settlements],
        [_clean(s.words.provider_message_id) for s in settlements],
        [_clean(s.words.code) for s in settlements],
        [_clean(s.words.detail) for s in settlements],
        [_clean(s.words.response) for s in settlements],
        [s.occurred_at for s in settlements],
    )


def _clean(text: str | None) -> str | None:
    """PostgreSQL's text holds no NUL, and a provider may say anything."""
    return None if text is None else text[:4096].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _entry(row: Sequence[object]) -> LedgerEntry:
    attempt, provider, age, status, reason, occurred_at, *words = row
    return LedgerEntry(
        attempt=int(str(attempt)),
        provider=str(provider),
        age_seconds=float(str(age)),
        status=None if status is None else Status(str(status)),
        reason=None if reason is None else Reason(str(reason)),
        occurred_at=occurred_at if isinstance(occurred_at, datetime) else None,
        words=ProviderWords(**dict(zip(_WORDS, words, strict=True))),  # type: ignore[arg-type]
    )


_WORDS = ("provider_message_id", "code", "detail", "response")
