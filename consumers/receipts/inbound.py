"""Handles texts that people wrote, and receipts that have only the provider's own id.

The receipt processor passes everything that a parser read, and gets back receipts that have the id
of one of our messages. A person who writes STOP (`consumers.receipts.stopwords`) is put on the
suppression list of every tenant that has written to that person through the provider within 30
days. The text does not say which of them it is meant for, and the number it came to is usually
shared.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from psycopg_pool import AsyncConnectionPool

from comms.platform import metrics
from comms.platform.clock import utc_now
from comms.platform.database import translate_errors
from consumers.receipts.stopwords import is_stop
from consumers.sdk.receipts import Inbound, Receipt, ReceiptEvent, UnmatchedReceipt
from consumers.suppression import normal
from schemas.vocabulary import Channel, SuppressionReason

log = structlog.get_logger(__name__)

WROTE_WITHIN = timedelta(days=30)
LOOK_BACK = timedelta(days=4)  # for messages by the provider's id; receipts come within three

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

# Adapters send our id with each message. This is for providers that do not return it, and for
# messages that were sent by hand.
FIND_BY_PROVIDER_ID = """
SELECT o.provider_message_id, o.message_id
FROM consumers.outcome o JOIN consumers.attempt a USING (message_id, attempt)
WHERE o.provider_message_id = ANY(%(ids)s) AND o.message_id >= %(since)s::uuid
  AND a.channel = %(channel)s AND a.provider = %(provider)s
"""


class AttemptLookup:
    """Finds the messages that receipts are about.

    Every method raises `DatabaseError` if the provider must send the same again.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def match(
        self, channel: Channel, provider: str, events: Sequence[ReceiptEvent]
    ) -> list[Receipt]:
        """Act on texts that people wrote, and return the receipts of our messages."""
        receipts = [event for event in events if isinstance(event, Receipt)]
        unmatched = [event for event in events if isinstance(event, UnmatchedReceipt)]
        if unmatched:
            receipts += await self._match_by_provider_id(channel, provider, unmatched)
        for event in events:
            if isinstance(event, Inbound):
                await self._handle_text(channel, provider, event)
        return receipts

    async def find(self, channel: Channel, provider: str, ids: Sequence[str]) -> dict[str, UUID]:
        """Return our ids of messages that a provider accepted in the last days, by its own ids."""
        values = {
            "ids": list(ids),
            "since": _lowest_id(),
            "channel": channel,
            "provider": provider,
        }
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(FIND_BY_PROVIDER_ID, values)
                rows = await cursor.fetchall()
        return {str(provider_id): message_id for provider_id, message_id in rows}

    async def _match_by_provider_id(
        self, channel: Channel, provider: str, unmatched: Sequence[UnmatchedReceipt]
    ) -> list[Receipt]:
        provider_ids = [receipt.response.provider_message_id for receipt in unmatched]
        message_ids = await self.find(channel, provider, [i for i in provider_ids if i is not None])
        receipts = [
            receipt.of(message_ids[provider_id])
            for receipt, provider_id in zip(unmatched, provider_ids, strict=True)
            if provider_id in message_ids
        ]
        metrics.receipts_total.labels(channel, provider, "unknown").inc(
            len(unmatched) - len(receipts)
        )
        return receipts

    async def _handle_text(self, channel: Channel, provider: str, inbound: Inbound) -> None:
        is_opt_out = inbound.stop or is_stop(inbound.text)
        metrics.inbound_total.labels(channel, provider, "stop" if is_opt_out else "other").inc()
        if not is_opt_out:
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
        with translate_errors():
            async with self._pool.connection() as connection:
                rows = await (await connection.execute(_WROTE_TO_THEM, values)).fetchall()
                values["reason"] = SuppressionReason.OPT_OUT
                values["tenants"] = [tenant for tenant, _ in rows]
                values["message_ids"] = [message_id for _, message_id in rows]
                cursor = await connection.execute(_SUPPRESS, values)
                return [tenant for (tenant,) in await cursor.fetchall()]


def _lowest_id() -> UUID:
    """Return the lowest id (UUIDv7) that a message accepted within `LOOK_BACK` can have."""
    milliseconds = int((utc_now() - LOOK_BACK).timestamp() * 1000)
    return UUID(int=milliseconds << 80)
