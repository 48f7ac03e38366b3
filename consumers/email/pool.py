"""Kept SMTP sessions: opened when needed, used for many mails, closed when idle or worn.

The SMTP adapter leases one for each mail. A session that stood for a while is asked whether its
server is still there before it is trusted with a mail.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from consumers.email.session import RefusedError, Server, Session, connect
from consumers.sdk.http_transport import NotSentError
from schemas.vocabulary import Reason

_CHECK_AFTER_SECONDS = 1.0
_POLITE_SECONDS = 2.0  # for a good-bye


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How many sessions there may be, and how long one is kept."""

    connections: int = 10
    mails: int = 100
    idle_seconds: float = 30.0


class SessionPool:
    """Sessions with one server, used from one event loop."""

    def __init__(self, server: Server, limits: PoolLimits) -> None:
        self._server, self._limits = server, limits
        self._idle: list[Session] = []
        self._places = asyncio.Semaphore(limits.connections)
        self._sweeping: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lease(self, *, seconds: float) -> AsyncIterator[Session]:
        """A session to send one mail with, ready within `seconds`.

        Raises:
            NotSentError, RefusedError: there is none.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError as error:
            raise NotSentError("every connection is in use", reason=Reason.TIMEOUT) from error
        try:
            session = await self._ready(deadline)
            try:
                yield session
            except RefusedError:
                self._give_back(session)
                raise
            except BaseException:
                session.drop()
                raise
            self._give_back(session)
        finally:
            self._places.release()

    async def close(self) -> None:
        """Close every session; none is leased."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        while self._idle:
            self._leave(self._idle.pop())
        await asyncio.gather(*self._leaving)

    async def _ready(self, deadline: float) -> Session:
        loop = asyncio.get_running_loop()
        while self._idle:
            session = self._idle.pop()
            fresh = loop.time() - session.idle_since < _CHECK_AFTER_SECONDS
            if session.usable and (
                fresh or await session.reset(seconds=max(0.1, (deadline - loop.time()) / 2))
            ):
                return session
            self._leave(session)
        return await connect(self._server, seconds=max(0.1, deadline - loop.time()))

    def _give_back(self, session: Session) -> None:
        session.mails += 1
        if not session.usable or session.mails >= self._limits.mails:
            self._leave(session)
            return
        loop = asyncio.get_running_loop()
        session.idle_since = loop.time()
        self._idle.append(session)
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._limits.idle_seconds, self._sweep)

    def _sweep(self) -> None:
        """Close what stood idle for too long; come back while anything is left."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._limits.idle_seconds
        for session in [one for one in self._idle if one.idle_since <= oldest]:
            self._idle.remove(session)
            self._leave(session)
        self._sweeping = None
        if self._idle:
            due = min(one.idle_since for one in self._idle) + self._limits.idle_seconds
            self._sweeping = loop.call_at(due, self._sweep)

    def _leave(self, session: Session) -> None:
        task = asyncio.create_task(session.quit(seconds=_POLITE_SECONDS))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
