"""Who relays what: the queue's shards, and how several relays share them.

A row's shard says its lane (by its priority) and, within the lane, one of eight parts of all
recipients. The relay takes shards here. A shard has one owner, by an advisory lock of the owner's
session, so that one recipient's messages are published in order; and every relay owns about as many
as every other, so that a second one takes work over and does not only stand by.
"""

from collections.abc import Iterable
from typing import Any

from psycopg import Connection

from schemas.vocabulary import Priority

# As in the generated column `producer.outbox.shard`.
NORMAL, HIGH, BULK = range(8), range(8, 16), range(16, 24)
SHARDS = range(24)

LOCKS = 0x636F6D73  # the first half of every lock's number, so that others' locks do not meet ours
SCHEDULE_LOCK = 1000  # held while what is due is moved to the queue
_PRESENT = 1001  # held together by every relay: who is there

_LANES = (Priority.NORMAL, Priority.HIGH, Priority.BULK)
URGENCY = (Priority.HIGH, Priority.NORMAL, Priority.BULK)


def lane_of(shard: int) -> Priority:
    """The priority of the messages in a shard."""
    return _LANES[shard // len(NORMAL)]


def take_shards(connection: Connection[Any], owned: frozenset[int]) -> frozenset[int]:
    """Take this relay's share of the shards: what nobody holds, as far as it is not more than the
    others have; and give back what is more.

    Nothing of `owned` may be half published. Returns all that are ours now, for as long as the
    session lives or until they are given back.
    """
    share = -(-len(SHARDS) // _relays(connection))
    if surplus := sorted(owned, key=_part)[share:]:
        connection.execute(
            "SELECT pg_advisory_unlock(%s, shard) FROM unnest(%s::int[]) AS shard",
            (LOCKS, surplus),
        )
        return owned - frozenset(surplus)
    free = (shard for shard in sorted(SHARDS, key=_part) if shard not in owned)
    return owned | _lock(connection, free, most=share - len(owned))


def _part(shard: int) -> tuple[int, int]:
    """The order in which shards are taken: a share has something of every lane."""
    return shard % len(NORMAL), shard


def _relays(connection: Connection[Any]) -> int:
    """How many relays there are; makes this one known."""
    row = connection.execute(
        """
        SELECT count(*), bool_or(pid = pg_backend_pid()) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND objsubid = 2
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        (LOCKS, _PRESENT),
    ).fetchone()
    count, known = row or (0, None)
    if not known:
        connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (LOCKS, _PRESENT))
        count += 1
    return int(count)


def _lock(connection: Connection[Any], shards: Iterable[int], *, most: int) -> frozenset[int]:
    """Those that were free; no more than `most`."""
    taken: set[int] = set()
    for shard in shards:
        if len(taken) >= most:
            break
        row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCKS, shard)).fetchone()
        if row and row[0]:
            taken.add(shard)
    return frozenset(taken)
