"""Passes status changes to every follower as they are recorded, from one reader of the database.

`GET /v1/events` follows a `Feed`. While there are followers, one task of this process queries the
database four times a second for new changes and passes them to each follower of the tenant. Without
followers it does nothing. A follower that reconnects names the last change it saw, and first gets
what it missed.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog
from psycopg_pool import AsyncConnectionPool

from audit.queries import changes
from audit.queries.changes import Cursor
from audit.records import Change
from comms.platform.database import DatabaseError, translate_errors

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
RETRY_SECONDS = 2.0
HEARTBEAT_SECONDS = 15.0
PAGE = 500
MAX_QUEUED = 5000  # a follower with more changes than this waiting is disconnected; it may resume


@dataclass(eq=False, slots=True)
class _Follower:
    tenant: str
    queue: asyncio.Queue[Change] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED))
    is_overrun: bool = False

    def offer(self, change: Change) -> None:
        if change.tenant == self.tenant and not self.is_overrun:
            try:
                self.queue.put_nowait(change)
            except asyncio.QueueFull:
                self.is_overrun = True


class Feed:
    """The changes of all tenants: one for each process, followed by every client."""

    def __init__(
        self, pool: AsyncConnectionPool, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        self._pool = pool
        self._heartbeat_seconds = heartbeat_seconds
        self._followers: set[_Follower] = set()
        self._joining = asyncio.Lock()
        self._cursor = Cursor(0, 0)
        self._reader: asyncio.Task[None] | None = None

    async def follow(
        self, tenant: str, *, after: Cursor | None = None
    ) -> AsyncIterator[Change | None]:
        """Yield the tenant's changes after a point, or from now on; None now and then, when quiet.

        It ends when the follower is too slow.

        Raises:
            DatabaseError: the database does not answer at the beginning.
        """
        follower = _Follower(tenant)
        start = await self._join(follower)
        try:
            yield None
            if after is not None:
                async for change in self._missed(tenant, after, start):
                    yield change
            while not (follower.is_overrun and follower.queue.empty()):
                yield await self._next(follower)
        finally:
            self._leave(follower)

    async def _next(self, follower: _Follower) -> Change | None:
        try:
            return await asyncio.wait_for(follower.queue.get(), self._heartbeat_seconds)
        except TimeoutError:
            return None

    async def _missed(self, tenant: str, after: Cursor, until: Cursor) -> AsyncIterator[Change]:
        while after < until:
            with translate_errors():
                async with self._pool.connection() as connection:
                    page = await changes.read_since(connection, after, limit=PAGE, tenant=tenant)
            for change in page:
                after = Cursor.parse(change.cursor) or until
                if after > until:
                    return
                yield change
            if len(page) < PAGE:
                return

    async def _join(self, follower: _Follower) -> Cursor:
        async with self._joining:
            if self._reader is None:
                with translate_errors():
                    async with self._pool.connection() as connection:
                        self._cursor = await changes.current_position(connection)
                self._reader = asyncio.create_task(self._read(), name="audit-feed")
            self._followers.add(follower)
            return self._cursor

    def _leave(self, follower: _Follower) -> None:
        self._followers.discard(follower)
        if not self._followers and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    async def _read(self) -> None:
        while True:
            try:
                with translate_errors():
                    async with self._pool.connection() as connection:
                        page = await changes.read_since(connection, self._cursor, limit=PAGE)
            except DatabaseError as error:
                log.warning("feed.database_unavailable", problem=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._distribute(page)
            if len(page) < PAGE:
                await asyncio.sleep(POLL_SECONDS)

    def _distribute(self, page: list[Change]) -> None:
        for change in page:
            for follower in self._followers:
                follower.offer(change)
        if page:
            self._cursor = Cursor.parse(page[-1].cursor) or self._cursor
