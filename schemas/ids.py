"""Ids: of messages (UUIDv7, with time and slot) and of events (derived from what the event says).

The producer makes message ids. Whoever announces a status derives the event's id from what the
event says, so that the audit service recognises an event that is published again after a crash.

A message id is laid out as RFC 9562 has it for version 7. The last 10 of its random bits are the
slot of the message's Kafka key (`schemas.slots`), where the key was known:

    48 bits   milliseconds since 1970
     4 bits   version, 7
    12 bits   random
     2 bits   variant, binary 10
    52 bits   random
    10 bits   slot, or random in ids that were made without a key

Nothing in an id says whether its last bits are a slot. The slot is a hint where to look first, and
the message that is found there, or is not, is the answer.
"""

import os
import time
from datetime import UTC, datetime
from uuid import UUID, uuid5

from schemas.slots import SLOTS, slot_of_key

_VERSION = 7


def new_message_id(unix_ms: int | None = None, *, key: str | None = None) -> UUID:
    """Make a message id: a UUIDv7 of this moment.

    Args:
        unix_ms: milliseconds since 1970; now when omitted.
        key: the Kafka key of the message, `tenant:recipient` (`Envelope.key`). With it the id
            carries the slot of the message.
    """
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | random
    value = value & ~(0xF << 76) | _VERSION << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    message_id = UUID(int=value)
    return message_id if key is None else with_slot(message_id, key)


def with_slot(message_id: UUID, key: str) -> UUID:
    """Return a new message's id with the slot of its Kafka key in place of its last random bits."""
    return UUID(int=message_id.int & ~(SLOTS - 1) | slot_of_key(key))


def slot_of(message_id: UUID) -> int | None:
    """Return the slot in an id; None for an id that is no UUIDv7.

    The answer for an id that was made without a key is a random slot.
    """
    return message_id.int & (SLOTS - 1) if message_id.version == _VERSION else None


def carries_slot(message_id: UUID, key: str) -> bool:
    """Return whether an id leads to the place of the messages that have this Kafka key.

    True for every id made with the key, and for one in 1024 of the others.
    """
    return slot_of(message_id) == slot_of_key(key)


def time_of(message_id: UUID) -> datetime:
    """Return the instant when a UUIDv7 was made, to the millisecond."""
    return datetime.fromtimestamp((message_id.int >> 80) / 1000, UTC)


def event_id(message_id: UUID, *parts: str | int) -> UUID:
    """Return the id of an event of a message. Equal facts have equal ids."""
    return uuid5(message_id, "/".join(map(str, parts)))
