"""The yardstick: a consumer as one would write it by hand in an afternoon.

The same Kafka client, the same HTTP client with as many calls in flight, the same Avro decoding. No
ledger, no status events, no order, no retries: what is left when every promise is dropped.
"""

import asyncio
import sys

import aiohttp
import uvloop
from confluent_kafka import Consumer, Message

from schemas.codec import Codec
from schemas.messages import SmsMessage


async def main(bootstrap: str, url: str, concurrency: int, count: int) -> None:
    """Send `count` messages of comms.sms."""
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
    codec, loop = Codec(), asyncio.get_running_loop()
    slots, sent = asyncio.Semaphore(concurrency), 0
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send(record: Message) -> None:
            nonlocal sent
            message = codec.decode(record.value() or b"", SmsMessage)
            body = {"reference": str(message.id), "to": message.to, "body": message.body}
            async with session.post(f"{url}/v1/sms/messages", json=body) as answer:
                await answer.json()
            sent += 1
            slots.release()

        tasks: set[asyncio.Task[None]] = set()
        while sent < count:
            records = await loop.run_in_executor(None, consumer.consume, 100, 0.02)
            for record in records:
                if record.error() is None:
                    await slots.acquire()
                    task = asyncio.create_task(send(record))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            if records and not tasks:
                consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
