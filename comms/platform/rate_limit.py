"""A rate limit held by many processes together, without a query each time.

The tokens of a limit accumulate in a row of PostgreSQL. A process takes some at a time from
`TokenBuckets`, keeps them in a `TokenLease` and spends them from memory. Tokens that are not spent
within a second are lost. Channels apply the limits of providers in this way
(`consumers.routing.rate_limit`), and the API those of tenants (`producer.admission`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from comms.platform.limits import Limit

LEASE_SECONDS = 1.0  # tokens that are not spent by then are lost
LARGEST_LEASE = 100

_INTRODUCE = "INSERT INTO {table} ({columns}, tokens) VALUES ({values}) ON CONFLICT DO NOTHING"

# All that is needed or nothing. A caller that needs more than can accumulate gets it from a full
# bucket, whose count is then negative.
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
class Grant:
    """The answer of a bucket.

    Args:
        count: the tokens that it gave; 0 if it had too few.
        left: the tokens that remain in it.
    """

    count: int
    left: float


@dataclass(slots=True)
class TokenLease:
    """The tokens that a process has and did not spend; times are in seconds, of any clock."""

    count: int = 0
    until: float = 0.0

    def holds(self, now: float) -> int:
        """Return the number of tokens that may be spent."""
        return self.count if now < self.until else 0

    def fill(self, count: int, now: float) -> None:
        """Start a new lease with `count` tokens."""
        self.count = count
        self.until = now + LEASE_SECONDS

    def spend(self, count: int = 1) -> None:
        """Use some of the tokens."""
        self.count -= count


class TokenBuckets:
    """The limits in one table, a row each. Methods raise `DatabaseError` when nothing was done.

    Args:
        pool: connections to the database.
        table: the schema and the name.
        key: the columns that identify a limit.
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
        """Make sure that the row exists; a new one begins with `tokens`."""
        with translate_errors():
            async with self._pool.connection() as connection:
                await connection.execute(self._introduce, (*key, tokens))

    async def take(self, *key: str, limit: Limit, need: int = 1, wanted: int = 1) -> Grant | None:
        """Take `need` tokens or none, and up to `wanted` if available.

        A caller that needs more than the limit's burst gets it from a full bucket, whose count is
        then negative.

        Returns:
            What the bucket gave; None if there is no such row.
        """
        required = min(need, limit.burst)
        values = (limit.burst, limit.rate, *key, required, need, wanted, *key)
        with translate_errors():
            async with self._pool.connection() as connection:
                row = await (await connection.execute(self._take, values)).fetchone()
        return Grant(*row) if row else None


def lease_of(rate: float) -> int:
    """Return how many tokens to take at once: a quarter of those that a lease's time allows."""
    return min(LARGEST_LEASE, max(1, int(rate * LEASE_SECONDS / 4)))
