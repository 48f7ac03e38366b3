"""A link that is there whenever it can be: bound, kept, and made again with patience.

The adapter opens one binding and asks it for turns. A message has its turn when one of the window's
places is free and the link is bound; its parts then go out one after the other, so that what is
unanswered is never more than the window. A place is free again when its last answer has come, or
can come no more, even if the call that wanted it was cancelled.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from consumers.sdk.http_transport import NotSentError
from consumers.sms.smpp.connecting import BindRefusedError, Server, connect
from consumers.sms.smpp.link import Answer, Heard, Link, OnDelivery, received
from consumers.sms.smpp.pdu import Pdu, Status, Submission
from schemas.vocabulary import Reason

log = structlog.get_logger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts to bind
_SETTLED_SECONDS = 10.0  # a link that lasted so long is no sign of trouble when it ends


class Turn:
    """One place of the window, on one link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.last: Answer | None = None

    async def submit(self, submission: Submission, *, until: float, heard: Heard) -> Pdu:
        """Hand over one part, the one before it answered.

        Args:
            heard: is told the answer, even where it is too late for this call.

        Raises:
            NotSentError: the link has ended; nothing was written.
            AnswerLostError: no answer came until `until`, or the link ended before it did.
        """
        self.last = self._link.ask(submission.frame, until=until, heard=heard)
        # A cancelled call leaves its place to the answer, not to the next call.
        answer = received(await asyncio.shield(self.last))
        if answer.status == Status.NOT_BOUND:
            self._link.retire()
        return answer


class Binding:
    """The link to one SMSC, used from one event loop.

    Args:
        window: how many submissions may be unanswered.
    """

    def __init__(self, server: Server, *, window: int, on_delivery: OnDelivery) -> None:
        self._server, self._on_delivery = server, on_delivery
        self._window = asyncio.Semaphore(window)
        self._link: Link | None = None
        self._problem: NotSentError | BindRefusedError | None = None
        self._changed, self._hurry = asyncio.Event(), asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to bind; nobody waits for it."""
        self._keeping = asyncio.create_task(self._keep())

    @asynccontextmanager
    async def turn(self, *, until: float) -> AsyncIterator[Turn]:
        """A place of the window and a link, ready at `until` at the latest.

        Raises:
            NotSentError: there is none, or no place came free.
            BindRefusedError: the SMSC refuses the bind.
        """
        try:
            async with asyncio.timeout_at(until):
                await self._window.acquire()
        except TimeoutError as error:
            raise NotSentError("the window was full", reason=Reason.TIMEOUT) from error
        turn = None
        try:
            turn = Turn(await self.link(until=until))
            yield turn
        finally:
            self._give_back(turn)

    async def link(self, *, until: float) -> Link:
        """The link, bound. Waits while one is being made, unless the last attempt failed.

        Raises:
            NotSentError, BindRefusedError: why there is none.
        """
        try:
            async with asyncio.timeout_at(until):
                while self._link is None or not self._link.alive:
                    if self._problem is not None:
                        raise self._problem.with_traceback(None)
                    await self._changed.wait()
        except TimeoutError as error:
            raise NotSentError("the link was not bound in time", reason=Reason.TIMEOUT) from error
        return self._link

    async def check(self, *, seconds: float) -> None:
        """Ask whether the SMSC is there; where there is no link, try at once to make one.

        Raises:
            NotSentError, BindRefusedError: it is not, or does not want us.
        """
        until = asyncio.get_running_loop().time() + seconds
        if self._link is None:
            self._problem = None
            self._hurry.set()
        link = await self.link(until=until)
        if not await link.enquire(seconds=until - asyncio.get_running_loop().time()):
            raise NotSentError("the SMSC does not answer")

    async def close(self) -> None:
        """Unbind, and bind no more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._link is not None:
            await self._link.close()

    def _give_back(self, turn: Turn | None) -> None:
        if turn is None or turn.last is None or turn.last.done():
            self._window.release()
        else:
            turn.last.add_done_callback(lambda _: self._window.release())

    async def _keep(self) -> None:
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        while True:
            begun = loop.time()
            try:
                link = await connect(self._server, on_delivery=self._on_delivery)
            except (NotSentError, BindRefusedError) as error:
                log.warning("smpp.not_bound", provider=self._server.provider, problem=str(error))
                self._become(None, error)
            else:
                log.info("smpp.bound", provider=self._server.provider)
                self._become(link, None)
                await link.ended()
                self._become(None, None)
            if loop.time() - begun > _SETTLED_SECONDS and self._problem is None:
                pause = _FIRST_PAUSE
            await self._rest(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _become(self, link: Link | None, problem: NotSentError | BindRefusedError | None) -> None:
        self._link, self._problem = link, problem
        self._changed.set()
        self._changed = asyncio.Event()

    async def _rest(self, seconds: float) -> None:
        """Some time of at most so much, so that many do not come back at once."""
        try:
            async with asyncio.timeout(random.uniform(0.5, 1) * seconds):  # noqa: S311 - spreads repetitions
                await self._hurry.wait()
        except TimeoutError:
            pass
        self._hurry.clear()
