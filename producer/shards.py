"""The shards of the queue, and how several relays share them.

The shard of a row gives its lane (by its priority) and one of eight parts of the recipients in
that lane. `producer.relay_session` takes shards with `take_shards`. A shard has one owner, which
holds an advisory lock in its database session, so that the messages of one recipient are published
in order. Each relay owns about the same number of shards. A second relay therefore takes over part
of the work, and is not only a standby.
"""

from collections.abc import Iterable
from typing import Any

from psycopg import Connection

from schemas.vocabulary import Priority

# As in the generated column `producer.outbox.shard`.
NORMAL, HIGH, BULK = range(8), range(8, 16), range(16, 24)
SHARDS = range(24)

LOCKS = 0x636F6D73  # the first half of each lock's key, so that locks of other programs differ
SCHEDULE_LOCK = 1000  # held while due messages are moved to the queue
_PRESENCE_LOCK = 1001  # a shared lock that each relay holds, so that relays can be counted

_LANES = (Priority.NORMAL, Priority.HIGH, Priority.BULK)
URGENCY = (Priority.HIGH, Priority.NORMAL, Priority.BULK)


def lane_of(shard: int) -> Priority:
    """Return the priority of the messages in a shard."""
    return _LANES[shard // len(NORMAL)]


def take_shards(connection: Connection[Any], owned: frozenset[int]) -> frozenset[int]:
    """Take free shards up to this relay's share, or release the shards beyond it.

    Args:
        owned: the shards of this relay. None of them may have a batch that is partly published.

    Returns:
        The shards that the relay owns from now on, until the session ends or they are released.
    """
    share = -(-len(SHARDS) // _count_relays(connection))
    if surplus := sorted(owned, key=_order)[share:]:
        connection.execute(
            "SELECT pg_advisory_unlock(%s, shard) FROM unnest(%s::int[]) AS shard",
            (LOCKS, surplus),
        )
        return owned - frozenset(surplus)
    candidates = (shard for shard in sorted(SHARDS, key=_order) if shard not in owned)
    return owned | _lock_free(connection, candidates, limit=share - len(owned))


def _order(shard: int) -> tuple[int, int]:
    """Return the sort key by which shards are taken: a share has shards of all lanes."""
    return shard % len(NORMAL), shard


def _count_relays(connection: Connection[Any]) -> int:
    """Return the number of relays, and make this one count."""
    row = connection.execute(
        """
        SELECT count(*), bool_or(pid = pg_backend_pid()) FROM pg_locks
        WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND objsubid = 2
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        (LOCKS, _PRESENCE_LOCK),
    ).fetchone()
    count, is_counted = row or (0, None)
    if not is_counted:
        connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (LOCKS, _PRESENCE_LOCK))
        count += 1
    return int(count)


def _lock_free(
    connection: Connection[Any], candidates: Iterable[int], *, limit: int
) -> frozenset[int]:
    """Lock up to `limit` of the candidates that are free, and return them."""
    locked: set[int] = set()
    for shard in candidates:
        if len(locked) >= limit:
            break
        row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCKS, shard)).fetchone()
        if row and row[0]:
            locked.add(shard)
    return frozenset(locked)
