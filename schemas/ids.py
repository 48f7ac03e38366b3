"""Ids: a message's (UUIDv7, carries its time) and an event's (derived, so a repeated word is one).

The producer makes message ids; whoever announces a status derives the event's id from what the
event says, so that saying it again after a crash is recognised by the audit store as the same.
"""

import os
import time
from datetime import UTC, datetime
from uuid import UUID, uuid5


def new_message_id(unix_ms: int | None = None) -> UUID:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, then randomness.

    Args:
        unix_ms: milliseconds since the epoch; now when omitted.
    """
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def time_of(message_id: UUID) -> datetime:
    """The instant a UUIDv7 was made, to the millisecond."""
    return datetime.fromtimestamp((message_id.int >> 80) / 1000, UTC)


def event_id(message_id: UUID, *parts: str | int) -> UUID:
    """The id of what happened to a message: equal facts have equal ids."""
    return uuid5(message_id, "/".join(map(str, parts)))
