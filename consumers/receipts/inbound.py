"""What a provider tells us that is no receipt of a message we named: people's words, and receipts
that carry only the provider's own id.

The receipt desk hands over everything a parser found and gets back the receipts of messages of
ours. A person who writes STOP (`consumers.receipts.stopwords`) is put on the suppression list of
every tenant that has written to them through that provider within 30 days: the text does not say
whom of them it is meant for, and the number it came to is usually shared.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform import metrics
from comms.platform.clock import utc_now
from comms.platform.database import translated
from consumers.receipts.stopwords import is_stop
from consumers.sdk.receipts import Inbound, Receipt, ReceiptEvent, UnmatchedReceipt
from consumers.suppression import normal
from schemas.vocabulary import Channel, SuppressionReason

log = structlog.get_logger(__name__)

WROTE_WITHIN = timedelta(days=30)
LOOK_BACK = timedelta(days=4)  # for a message by a provider's id; receipts come within three

_WROTE_TO_THEM = """
SELECT tenant, message_id
FROM audit.newest_messages_to(%(recipient)s, %(channel)s, %(provider)s, now() - %(within)s)
"""
_SUPPRESS = """
INSERT INTO consumers.suppression (tenant, channel, recipient, reason, message_id)
SELECT t.tenant, %(channel)s, %(recipient)s, %(reason)s, t.message_id
FROM unnest(%(tenants)s::text[], %(message_ids)s::uuid[]) AS t (tenant, message_id)
ON CONFLICT DO NOTHING
RETURNING tenant
"""

# Adapters send our id along, so that this is for a provider that cannot give it back, and for what
# was sent by hand.
BY_PROVIDERS_ID = """
SELECT o.provider_message_id, o.message_id
FROM consumers.outcome o JOIN consumers.attempt a USING (message_id, attempt)
WHERE o.provider_message_id = ANY(%(ids)s) AND o.message_id >= %(since)s::uuid
  AND a.channel = %(channel)s AND a.provider = %(provider)s
"""


class AttemptLookup:
    """Every method raises `DatabaseError` when it must be told again."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def sort_out(
        self, channel: Channel, provider: str, said: Sequence[ReceiptEvent]
    ) -> list[Receipt]:
        """Act on what people wrote; the receipts among `said`, each of a message of ours."""
        receipts = [one for one in said if isinstance(one, Receipt)]
        unplaced = [one for one in said if isinstance(one, UnmatchedReceipt)]
        if unplaced:
            receipts += await self._place(channel, provider, unplaced)
        for one in said:
            if isinstance(one, Inbound):
                await self._hear(channel, provider, one)
        return receipts

    async def find(self, channel: Channel, provider: str, ids: Sequence[str]) -> dict[str, UUID]:
        """Our ids of messages that a provider has taken in the last days, by its own ids."""
        values = {
            "ids": list(ids),
            "since": _lowest_id(),
            "channel": channel,
            "provider": provider,
        }
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(BY_PROVIDERS_ID, values)
                return {str(theirs): ours for theirs, ours in await cursor.fetchall()}

    async def _place(
        self, channel: Channel, provider: str, unplaced: Sequence[UnmatchedReceipt]
    ) -> list[Receipt]:
        ids = [one.response.provider_message_id for one in unplaced]
        known = await self.find(channel, provider, [i for i in ids if i is not None])
        found = [(one, known.get(i or "")) for one, i in zip(unplaced, ids, strict=True)]
        metrics.receipts_total.labels(channel, provider, "unknown").inc(
            sum(ours is None for _, ours in found)
        )
        return [one.of(ours) for one, ours in found if ours is not None]

    async def _hear(self, channel: Channel, provider: str, inbound: Inbound) -> None:
        stop = inbound.stop or is_stop(inbound.text)
        metrics.inbound_total.labels(channel, provider, "stop" if stop else "other").inc()
        if not stop:
            log.info("inbound.ignored", channel=channel, provider=provider)
            return
        tenants = await self._suppress(channel, provider, normal(channel, inbound.from_))
        log.info("inbound.stop", channel=channel, provider=provider, tenants=sorted(tenants))

    async def _suppress(self, channel: Channel, provider: str, recipient: str) -> list[str]:
        """Put a recipient on the list of every tenant that wrote to them; return those tenants."""
        values: dict[str, object] = {
            "recipient": recipient,
            "channel": channel,
            "provider": provider,
            "within": WROTE_WITHIN,
        }
        with translated():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_WROTE_TO_THEM, values)).fetchall()
                values["reason"] = SuppressionReason.OPT_OUT
                values["tenants"] = [tenant for tenant, _ in rows]
                values["message_ids"] = [message_id for _, message_id in rows]
                cursor = await connection.execute(_SUPPRESS, values)
                return [tenant for (tenant,) in await cursor.fetchall()]


def _lowest_id() -> UUID:
    """The lowest id (UUIDv7) that a message accepted within `LOOK_BACK` can have."""
    milliseconds = int((utc_now() - LOOK_BACK).timestamp() * 1000)
    return UUID(int=milliseconds << 80)
