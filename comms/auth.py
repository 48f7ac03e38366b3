"""Who calls: the API key of a request, from its header or from the page's cookie.

Routes depend on an `Authenticator`, made once by the application. Keys that were found are
remembered for a few seconds, so that a busy caller costs no query a request and a revoked key stops
working soon.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from fastapi import Request
from psycopg_pool import AsyncConnectionPool

from comms.database import translated
from comms.keys import hash_of
from comms.problems import Problem

COOKIE = "comms_key"
REMEMBER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Caller:
    """A request's tenant; `mode` is `live` or `test`."""

    tenant: str
    mode: str
    key_id: UUID


class Authenticator:
    """A FastAPI dependency that answers with the `Caller`, or 401."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def __call__(self, request: Request) -> Caller:
        key = key_of(request)
        caller = await self.caller(key) if key else None
        if caller is None:
            raise Problem(
                401,
                "Unauthorized",
                "Send a valid API key: Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return caller

    async def caller(self, key: str) -> Caller | None:
        """Whose key it is, or None if it is nobody's (any more).

        Raises:
            DatabaseUnavailableError: it cannot be told now.
        """
        digest = hash_of(key)
        since, caller = self._known.get(digest, (0.0, None))
        if caller is not None and time.monotonic() - since < REMEMBER_SECONDS:
            return caller
        found = await self._look_up(digest)
        if found is None:
            self._known.pop(digest, None)
        else:
            self._known[digest] = (time.monotonic(), found)
        return found

    async def _look_up(self, digest: bytes) -> Caller | None:
        with translated():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "SELECT tenant, mode, id FROM comms.api_key"
                    " WHERE hash = %s AND revoked_at IS NULL",
                    (digest,),
                )
                row = await cursor.fetchone()
        return None if row is None else Caller(*row)


def key_of(request: Request) -> str | None:
    """The key a request brings."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return request.cookies.get(COOKIE)
