"""The comparison for `benchmarks.deliver`: a consumer as one writes it by hand in an afternoon.

It uses the same Kafka client, the same HTTP client with the same number of calls in flight, and the
same Avro decoder. It has no ledger, no status events, no order and no retries: this is what remains
without any guarantee.
"""

import asyncio
import sys

import aiohttp
import uvloop
from confluent_kafka import Consumer, Message

from schemas.codec import Codec
from schemas.messages import SmsMessage


class Sender:
    """Sends records to the stub provider, a limited number at a time."""

    def __init__(self, session: aiohttp.ClientSession, url: str, concurrency: int) -> None:
        self.sent = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._session = session
        self._url = url
        self._codec = Codec()
        self._slots = asyncio.Semaphore(concurrency)

    async def start(self, record: Message) -> None:
        """Wait for a free slot, then start to send the record."""
        await self._slots.acquire()
        task = asyncio.create_task(self._send(record))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _send(self, record: Message) -> None:
        message = self._codec.decode(record.value() or b"", SmsMessage)
        body = {"reference": str(message.id), "to": message.to, "body": message.body}
        async with self._session.post(f"{self._url}/v1/sms/messages", json=body) as response:
            await response.json()
        self.sent += 1
        self._slots.release()


async def main(bootstrap: str, url: str, *, concurrency: int, count: int) -> None:
    """Send `count` messages of the topic comms.sms."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "benchmark-minimal",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": "false",
            "session.timeout.ms": "6000",
            "fetch.wait.max.ms": "20",
        }
    )
    consumer.subscribe(["comms.sms"])
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        sender = Sender(session, url, concurrency)
        while sender.sent < count:
            records = await loop.run_in_executor(None, consumer.consume, 100, 0.02)
            for record in (record for record in records if record.error() is None):
                await sender.start(record)
            if records and not sender.tasks:
                consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    bootstrap, url, concurrency, count = sys.argv[1:]
    uvloop.run(main(bootstrap, url, concurrency=int(concurrency), count=int(count)))
