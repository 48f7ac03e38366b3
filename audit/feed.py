"""Status changes as they are recorded, to every follower from one reader of the store.

`GET /v1/events` follows a `Feed`. While anybody follows, one task of this process asks the store
four times a second for what is new and hands it to each follower of that tenant; while nobody does,
nothing is asked. A follower that returns names the last change it saw, and first gets what it
missed.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog
from psycopg_pool import AsyncConnectionPool

from audit.queries import changes
from audit.queries.changes import Cursor
from audit.records import Change
from comms.platform.database import DatabaseError, translated

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
RETRY_SECONDS = 2.0
HEARTBEAT_SECONDS = 15.0
PAGE = 500
BEHIND_AT_MOST = 5000  # a follower slower than this is let go, and resumes where it was


@dataclass(eq=False, slots=True)
class _Follower:
    tenant: str
    queue: asyncio.Queue[Change] = field(default_factory=lambda: asyncio.Queue(BEHIND_AT_MOST))
    overrun: bool = False

    def offer(self, change: Change) -> None:
        if change.tenant == self.tenant and not self.overrun:
            try:
                self.queue.put_nowait(change)
            except asyncio.QueueFull:
                self.overrun = True


class Feed:
    """One per process; `follow` as often as there are clients."""

    def __init__(
        self, pool: AsyncConnectionPool, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        self._pool, self._heartbeat_seconds = pool, heartbeat_seconds
        self._followers: set[_Follower] = set()
        self._joining = asyncio.Lock()
        self._cursor = Cursor(0, 0)
        self._reader: asyncio.Task[None] | None = None

    async def follow(
        self, tenant: str, *, after: Cursor | None = None
    ) -> AsyncIterator[Change | None]:
        """The tenant's changes after a point, or from now on; None now and then, when quiet.

        Ends when the follower is too slow.

        Raises:
            DatabaseError: the store does not answer at the beginning.
        """
        follower = _Follower(tenant)
        start = await self._join(follower)
        try:
            yield None
            if after is not None:
                async for change in self._missed(tenant, after, start):
                    yield change
            while not (follower.overrun and follower.queue.empty()):
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
            with translated():
                async with self._pool.connection() as connection:
                    page = await changes.since(connection, after, limit=PAGE, tenant=tenant)
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
                with translated():
                    async with self._pool.connection() as connection:
                        self._cursor = await changes.present(connection)
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
                with translated():
                    async with self._pool.connection() as connection:
                        found = await changes.since(connection, self._cursor, limit=PAGE)
            except DatabaseError as error:
                log.warning("feed.store_away", problem=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._hand_out(found)
            if len(found) < PAGE:
                await asyncio.sleep(POLL_SECONDS)

    def _hand_out(self, found: list[Change]) -> None:
        for change in found:
            for follower in self._followers:
                follower.offer(change)
        if found:
            self._cursor = Cursor.parse(found[-1].cursor) or self._cursor
