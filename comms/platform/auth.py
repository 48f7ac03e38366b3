"""Authentication: the API key of a request, from its header or from the cookie of the page.

Routes depend on an `Authenticator`, which the application makes once. Valid keys are cached for a
few seconds. So a busy caller does not cost a query for each request, and a revoked key stops
working soon.

A browser sends the cookie by itself. Therefore a request that changes something with the cookie
must come from our own page.
"""

import time
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Request
from psycopg_pool import AsyncConnectionPool

from comms.platform.database import translate_errors
from comms.platform.keys import hash_key
from comms.platform.problems import Problem

COOKIE = "comms_key"
CACHE_SECONDS = 5.0
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant and the API key of a request; `mode` is `live` or `test`."""

    tenant: str
    mode: str
    key_id: UUID
    key_name: str

    @property
    def is_test(self) -> bool:
        """Whether the key is for tests: its messages never reach a live provider."""
        return self.mode == "test"


class Authenticator:
    """A FastAPI dependency: returns the `Caller` of a request, or answers with 401."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._cache: dict[bytes, tuple[float, Caller]] = {}

    async def __call__(self, request: Request) -> Caller:
        """Return the `Caller` of a request.

        Raises:
            Problem: 401 without a valid key; 403 if another site sent the request.
        """
        key = read_key(request)
        if key and not _is_from_our_site(request):
            raise Problem(403, "Forbidden", "The request comes from another site, with your cookie")
        caller = await self.find_caller(key) if key else None
        if caller is None:
            raise Problem(
                401,
                "Unauthorized",
                "Send a valid API key: Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return caller

    async def require_live(self, request: Request) -> Caller:
        """Return the `Caller` of a request that resends messages; answer a test key with 403."""
        caller = await self(request)
        if caller.is_test:
            raise Problem(403, "Forbidden", "An API key for tests cannot resend messages")
        return caller

    async def find_caller(self, key: str) -> Caller | None:
        """Return the caller to whom a key belongs; None if it does not exist or was revoked.

        Raises:
            DatabaseUnavailableError: the key cannot be checked now.
        """
        digest = hash_key(key)
        read_at, cached = self._cache.get(digest, (0.0, None))
        if cached is not None and time.monotonic() - read_at < CACHE_SECONDS:
            return cached
        caller = await self._look_up(digest)
        if caller is None:
            self._cache.pop(digest, None)
        else:
            self._cache[digest] = (time.monotonic(), caller)
        return caller

    async def _look_up(self, digest: bytes) -> Caller | None:
        with translate_errors():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "SELECT tenant, mode, id, name FROM comms.api_key"
                    " WHERE hash = %s AND revoked_at IS NULL",
                    (digest,),
                )
                row = await cursor.fetchone()
        return None if row is None else Caller(*row)


def _is_from_our_site(request: Request) -> bool:
    """Whether a request with the cookie comes from our own page.

    Browsers do not send the cookie for requests of other sites (SameSite). This check refuses the
    sites that SameSite does not exclude: those on other ports and subdomains.
    """
    if request.method in _SAFE_METHODS or "Authorization" in request.headers:
        return True
    if request.headers.get("Sec-Fetch-Site") == "same-origin":  # a proxy may change Host
        return True
    origin = urlsplit(request.headers.get("Origin", ""))
    return bool(origin.netloc) and origin.netloc == request.headers.get("Host")


def read_key(request: Request) -> str | None:
    """Return the API key of a request, from the header or else from the cookie."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return request.cookies.get(COOKIE)
