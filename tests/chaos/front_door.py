"""A producer of another system: writes messages to a topic with nothing but the .avsc file.

Shares no code with the product. Each message that the broker acknowledged is recorded with the time
it was sent. Such a message is in no outbox. A broker that loses its data may lose it if no consumer
had claimed it by then. Nothing else may lose it.
"""

import hashlib
import io
import json
import logging
import random
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from fastavro.schema import fingerprint, to_parsing_canonical_form

_SILENT = logging.getLogger("front-door")
_SILENT.addHandler(logging.NullHandler())  # the client logs an error for every injected fault
_SCHEMA = Path(__file__).parents[2] / "schemas" / "sms_message.avsc"


class FrontDoor:
    """Publishes text messages, and adds a line to `accepted` for each acknowledged one."""

    def __init__(self, bootstrap: str, accepted: Path, *, seed: int, rate: float) -> None:
        self._schema = json.loads(_SCHEMA.read_text())
        schema_fingerprint = fingerprint(to_parsing_canonical_form(self._schema), "CRC-64-AVRO")
        self._header = b"\xc3\x01" + bytes.fromhex(schema_fingerprint)
        self._parsed = fastavro.parse_schema(self._schema)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": "60000"},
            logger=_SILENT,
        )
        self._accepted = accepted.open("a", buffering=1)
        self._rate = rate
        self._rng = random.Random(f"{seed}-door")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop publishing and wait for the acknowledgements."""
        self._stop.set()
        self._thread.join(60)
        self._producer.flush(60)

    def _work(self) -> None:
        while not self._stop.wait(self._rng.expovariate(self._rate)):
            number = f"+1212555{7000 + self._rng.randrange(50):04d}"
            record = self._record(number)
            self._producer.produce(
                "comms.sms",
                key=f"default:{number}",
                value=self._encode(record),
                on_delivery=self._recorder(record),
            )
            self._producer.poll(0)

    def _recorder(self, record: dict[str, Any]) -> Any:
        def record_delivery(error: KafkaError | None, _: Message) -> None:
            if error is None:
                line = {"id": record["id"], "channel": "sms", "recipient": record["to"]}
                at = record["created_at"].timestamp()
                self._accepted.write(json.dumps(line | {"at": at}) + "\n")

        return record_delivery

    def _record(self, number: str) -> dict[str, Any]:
        milliseconds = int(time.time() * 1000)
        noise = int.from_bytes(hashlib.sha256(self._rng.randbytes(16)).digest()[:10], "big")
        bits = (milliseconds << 80 | noise) & ~(0xF << 76) | 0x7 << 76
        bits = bits & ~(0x3 << 62) | 0x2 << 62
        values = {
            "id": str(uuid.UUID(int=bits)),
            "tenant": "default",
            "created_at": datetime.now(UTC),
            "priority": "normal",
            "metadata": {},
            "to": number,
            "body": "Your visit is tomorrow",
        }
        defaults = {field["name"]: field.get("default") for field in self._schema["fields"]}
        return defaults | values

    def _encode(self, record: dict[str, Any]) -> bytes:
        value = io.BytesIO()
        value.write(self._header)
        fastavro.schemaless_writer(value, self._parsed, record)
        return value.getvalue()
