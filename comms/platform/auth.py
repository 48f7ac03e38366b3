"""Who calls: the API key of a request, from its header or from the page's cookie.

A browser sends the cookie by itself, so a request that changes something by it must come from one
of our own pages.

Routes depend on an `Authenticator`, made once by the application. Keys that were found are
remembered for a few seconds, so that a busy caller costs no query a request and a revoked key stops
working soon.
"""

import time
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Request
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translated
from comms.platform.keys import hash_of
from comms.platform.problems import Problem

COOKIE = "comms_key"
REMEMBER_SECONDS = 5.0
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """A request's tenant; `mode` is `live` or `test`, `key_name` the name of the API key."""

    tenant: str
    mode: str
    key_id: UUID
    key_name: str

    @property
    def is_for_tests(self) -> bool:
        """Whether nothing that is asked with the key may reach a live provider."""
        return self.mode == "test"


class Authenticator:
    """A FastAPI dependency that answers with the `Caller`, or 401."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._known: dict[bytes, tuple[float, Caller]] = {}

    async def __call__(self, request: Request) -> Caller:
        key = key_of(request)
        if key and not _is_meant(request):
            raise Problem(403, "Forbidden", "Another site asks for this with your cookie")
        caller = await self.caller(key) if key else None
        if caller is None:
            raise Problem(
                401,
                "Unauthorized",
                "Send a valid API key: Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return caller

    async def live(self, request: Request) -> Caller:
        """The same dependency for what may reach live providers: 403 with a key for tests."""
        caller = await self(request)
        if caller.is_for_tests:
            raise Problem(403, "Forbidden", "An API key for tests sends nothing again")
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
                    "SELECT tenant, mode, id, name FROM comms.api_key"
                    " WHERE hash = %s AND revoked_at IS NULL",
                    (digest,),
                )
                row = await cursor.fetchone()
        return None if row is None else Caller(*row)


def _is_meant(request: Request) -> bool:
    """Whether it is no other site that has a browser ask this. The cookie is not sent for other
    sites at all (SameSite); this holds off those beside us, on other ports and subdomains."""
    if request.method in _HARMLESS or "Authorization" in request.headers:
        return True
    if request.headers.get("Sec-Fetch-Site") == "same-origin":  # behind a proxy that renames us
        return True
    origin = urlsplit(request.headers.get("Origin", ""))
    return bool(origin.netloc) and origin.netloc == request.headers.get("Host")


def key_of(request: Request) -> str | None:
    """The key a request brings."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return request.cookies.get(COOKIE)
