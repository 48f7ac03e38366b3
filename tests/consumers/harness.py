"""A channel process, the simulated provider and a listener on `comms.status`, for tests.

Tests start what they need with the context managers below, and ask the listener for the events that
were published. Everything is real. A channel process runs as in production, but on a thread.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp

from comms.platform.kafka import Broker, KafkaUnavailableError
from comms.platform.settings import Settings, load
from comms.stack.process import free_port
from consumers.sdk.outcomes import Outcome
from consumers.sdk.provider import Attempt
from consumers.service import run_channel
from consumers.simulator.options import read
from consumers.simulator.server import SimulatorServer
from schemas import topics
from schemas.codec import Codec
from schemas.events import StatusEvent
from schemas.ids import new_message_id
from schemas.messages import Message, SmsMessage
from schemas.vocabulary import Channel, Reason, Status
from tests.waiting import wait_for

CODEC = Codec()
DEADLINE = 60.0


def sms(to: str = "+12025550199", **changes: object) -> SmsMessage:
    """Build a valid text message; `changes` replace its fields."""
    values: dict[str, object] = {
        "id": new_message_id(),
        "tenant": "acme",
        "created_at": datetime.now(UTC),
        "to": to,
        "body": "Your technician arrives at nine.",
    }
    return SmsMessage(**(values | changes))  # type: ignore[arg-type]


class Named:
    """A provider that is chosen and never called."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def open(self) -> None: ...

    async def send(self, message: Message, attempt: Attempt) -> Outcome:
        raise NotImplementedError

    async def probe(self) -> str | None:
        return None

    async def close(self) -> None: ...


def eventually(condition: Callable[[], bool], what: str, within: float = DEADLINE) -> None:
    """Wait until the condition holds, or fail after `within` seconds."""
    wait_for(condition, seconds=within, what=what)


def settings_for(broker: Broker, database_url: str, tmp_path: Path, **environment: str) -> Settings:
    """Return the settings of a process that uses this broker and database."""
    return load(
        {
            "COMMS_DATABASE_URL": database_url,
            "COMMS_KAFKA_BOOTSTRAP_SERVERS": broker.properties["bootstrap.servers"],
            "COMMS_DATA_DIR": str(tmp_path),
            "COMMS_HTTP_PORT": str(free_port()),
            "COMMS_SIMULATOR_URL": f"http://127.0.0.1:{free_port()}",
            "COMMS_SIMULATOR_LATENCY_MS": "20",
            **environment,
        }
    )


def publish(broker: Broker, *messages: Message) -> None:
    """Put messages straight into their topics."""
    producer = broker.producer()
    for message in messages:
        topic = topics.of_channel(message.channel)
        producer.publish(topic, key=message.key, value=CODEC.encode(message, topic=topic))
    assert producer.flush(10) == 0
    producer.close()


@contextmanager
def simulator(settings: Settings) -> Iterator["SimulatorClient"]:
    """Run the simulated provider on its own event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = int(settings.simulator_url.rpartition(":")[2])
    server = SimulatorServer(read(settings), settings.receipt_secret, port=port)

    def run(work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)  # type: ignore[arg-type]

    run(server.start())
    try:
        yield SimulatorClient(settings.simulator_url)
    finally:
        run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


class SimulatorClient:
    """Asks the simulated provider which calls it received."""

    def __init__(self, url: str) -> None:
        self._url = url

    def calls(self, message_id: UUID) -> int:
        """Return how often the provider was called for a message."""
        answer = asyncio.run(self._get(f"/calls?message_id={message_id}"))
        calls = answer["items"]
        assert isinstance(calls, list)
        return len(calls)

    def summary(self) -> Mapping[str, object]:
        """Return the provider's own counts."""
        return asyncio.run(self._get("/calls/summary"))

    async def _get(self, path: str) -> Mapping[str, object]:
        async with aiohttp.ClientSession() as session, session.get(self._url + path) as answer:
            body: Mapping[str, object] = await answer.json()
            return body


@contextmanager
def channel(settings: Settings, name: Channel = Channel.SMS) -> Iterator[Callable[[], None]]:
    """Run a channel process on a thread; yield a function that stops it, and stop it at the end."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run_channel(name, settings, stop)
        except BaseException as error:  # handed to the test below
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
        if errors:
            raise errors[0]

    try:
        yield end
    finally:
        end()


class Listener:
    """Reads all events on `comms.status` from the beginning of the topic."""

    def __init__(self, broker: Broker) -> None:
        self._consumer = broker.consumer(f"test-{uuid4()}", [topics.STATUS])
        self.events: dict[UUID, list[StatusEvent]] = defaultdict(list)

    def listen(self) -> None:
        """Read new events; none while the broker is unavailable."""
        try:
            records = self._consumer.poll(500, 0.05)
        except KafkaUnavailableError:
            return
        for record in records:
            event = CODEC.decode(record.value, StatusEvent)
            if event.id not in {other.id for other in self.events[event.message_id]}:
                self.events[event.message_id].append(event)

    def statuses(self, message_id: UUID) -> list[tuple[Status, Reason]]:
        """Return the statuses of a message's events, in order."""
        return [(event.status, event.reason) for event in self.events[message_id]]

    def wait_for(self, message_id: UUID, status: Status) -> StatusEvent:
        """Wait for the event that gives the message this status, and return it."""

        def has_status() -> bool:
            self.listen()
            return any(event.status is status for event in self.events[message_id])

        eventually(has_status, f"{message_id} {status}")
        return next(event for event in self.events[message_id] if event.status is status)

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()


@contextmanager
def listener(broker: Broker) -> Iterator[Listener]:
    """Run a listener, and close it at the end."""
    opened = Listener(broker)
    try:
        yield opened
    finally:
        opened.close()
