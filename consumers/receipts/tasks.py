"""The tasks of a channel process that receive receipts, other than by webhook.

`consumers.service` runs them on the channel's event loop.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from psycopg_pool import AsyncConnectionPool

from comms.platform.kafka import EventProducer
from consumers.receipts.poller import ReceiptPoller
from consumers.receipts.processor import ReceiptProcessor
from consumers.sdk.provider import Provider
from consumers.sdk.receipt_polling import PollableProvider
from consumers.sdk.receipt_stream import StreamingProvider
from consumers.status.publisher import PolledProducer
from schemas.codec import Codec
from schemas.vocabulary import Channel


def receipt_tasks(
    providers: Sequence[Provider[Any]],
    *,
    channel: Channel,
    pool: AsyncConnectionPool,
    producer: EventProducer,
    codec: Codec,
    loop: asyncio.AbstractEventLoop,
) -> list[Coroutine[Any, Any, None]]:
    """Return a task for each provider whose receipts are read from a connection or polled."""
    processor = ReceiptProcessor(pool, PolledProducer(producer, loop), codec)
    tasks = []
    for provider in providers:
        store = processor.for_provider(channel, provider.name)
        if isinstance(provider, StreamingProvider):
            tasks.append(provider.listen(store))
        if isinstance(provider, PollableProvider):
            poller = ReceiptPoller(pool, provider, store, channel=channel, name=provider.name)
            tasks.append(poller.run())
    return tasks
