"""A rate limit held by many processes together, without a query each time.

What a limit allows accumulates in a row of PostgreSQL. A process takes some of it at a time from
`TokenBuckets`, keeps that in a `TokenLease` and spends it from memory; what is not spent within a
second is forfeited. Channels hold providers' limits so (`consumers.routing.rate_limit`), the API
the tenants' (`producer.admission`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translated
from comms.platform.limits import Limit

LEASE_SECONDS = 1.0  # what is not spent by then is forfeited
LARGEST_LEASE = 100

_INTRODUCE = "INSERT INTO {table} ({columns}, tokens) VALUES ({values}) ON CONFLICT DO NOTHING"

# All that is needed or nothing. Who needs more than can accumulate gets it from a full bucket, and
# the bucket owes it then.
_TAKE = """
WITH held AS (
    SELECT least(%s::float8, tokens + %s::float8
                 * greatest(0, extract(epoch FROM clock_timestamp() - at)::float8)) AS tokens
    FROM {table} WHERE ({columns}) = ({key}) FOR UPDATE
), given AS (
    SELECT tokens, CASE WHEN tokens >= %s::float8
                        THEN greatest(%s::float8, least(%s::float8, floor(tokens)))
                        ELSE 0 END AS count
    FROM held
)
UPDATE {table} SET tokens = given.tokens - given.count, at = clock_timestamp()
FROM given WHERE ({columns}) = ({key})
RETURNING given.count::int, given.tokens - given.count
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a bucket gave: `count` tokens, none if it has too few; `left` remain in it."""

    count: int
    left: float


@dataclass(slots=True)
class TokenLease:
    """What a process has taken and not spent; times are in seconds, of whatever clock."""

    count: int = 0
    until: float = 0.0

    def holds(self, now: float) -> int:
        """What may be spent."""
        return self.count if now < self.until else 0

    def fill(self, count: int, now: float) -> None:
        """Hold so much from now on, for as long as a lease lasts."""
        self.count, self.until = count, now + LEASE_SECONDS

    def spend(self, count: int = 1) -> None:
        """Use some of it."""
        self.count -= count


class TokenBuckets:
    """The limits in one table, a row each. Methods raise `DatabaseError` when nothing was done.

    Args:
        table: schema and name; key: its columns that say whose limit a row is.
    """

    def __init__(
        self, pool: AsyncConnectionPool, table: tuple[str, str], key: Sequence[str]
    ) -> None:
        self._pool = pool
        names = {
            "table": sql.Identifier(*table),
            "columns": sql.SQL(", ").join(map(sql.Identifier, key)),
            "key": sql.SQL(", ").join([sql.Placeholder()] * len(key)),
            "values": sql.SQL(", ").join([sql.Placeholder()] * (len(key) + 1)),
        }
        self._introduce = sql.SQL(_INTRODUCE).format(**names)
        self._take = sql.SQL(_TAKE).format(**names)

    async def introduce(self, *key: str, tokens: float) -> None:
        """Make sure that the row is there; a new one begins with `tokens`."""
        with translated():
            async with self._pool.connection() as connection:
                await connection.execute(self._introduce, (*key, tokens))

    async def take(self, *key: str, limit: Limit, need: int = 1, wanted: int = 1) -> Taken | None:
        """Take `need` tokens or none, and up to `wanted` if available; None: no such row.

        Whoever needs more than the limit's burst gets it from a full bucket, which then owes it.
        """
        enough = min(need, limit.burst)
        values = (limit.burst, limit.rate, *key, enough, need, wanted, *key)
        with translated():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(self._take, values)).fetchone()
        return Taken(*row) if row else None


def lease_of(rate: float) -> int:
    """How much to take at once: a quarter of what a lease's time allows."""
    return min(LARGEST_LEASE, max(1, int(rate * LEASE_SECONDS / 4)))
