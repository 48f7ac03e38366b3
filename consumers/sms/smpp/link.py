"""One connection to an SMSC, from its bind to its end.

`consumers.sms.smpp.binding` makes links and replaces them. A link reads every frame: an answer goes
to whoever waits for it, what the SMSC asks of us is answered, and a `deliver_sm` is handed over, to
be answered once what it says is on record. Whether an answer can still come decides what a lost
call means, so a link that has ended tells everybody who waits.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from consumers.sdk.http_transport import AnswerLostError, NotSentError
from consumers.sms.smpp import pdu as pdus
from consumers.sms.smpp.pdu import Command, Pdu, Status, UnreadableError

log = structlog.get_logger(__name__)

_POLITE_SECONDS = 1.0  # for a good-bye, and for the last answers
_MOST_LATE = 1000  # answers that are waited for though their calls have ended

Frame = Callable[[int], bytes]  # what is written, by its sequence number
Heard = Callable[[Pdu], None]
OnDelivery = Callable[["Link", Pdu], None]
Answer = asyncio.Future[Pdu | None]


@dataclass(slots=True, eq=False)
class _Asked:
    """A request that was written. `answer` becomes None when there will be none in time."""

    answer: Answer
    heard: Heard | None


class Link:
    """A connection; bound, once `connect` has returned it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_delivery: OnDelivery,
        provider: str,
    ) -> None:
        self._reader, self._writer, self._on_delivery = reader, writer, on_delivery
        self._log = log.bind(provider=provider)
        self._asked: dict[int, _Asked] = {}
        self._sequence = 0
        self._ended = self._retired = False
        self._tasks: list[asyncio.Task[None]] = []
        self._reading = asyncio.create_task(self._read_all())

    @property
    def alive(self) -> bool:
        """Whether anything new may be asked on it."""
        return not self._retired and self._open

    async def ended(self) -> None:
        """Wait until it has, for whatever reason."""
        await asyncio.wait([self._reading])

    def ask(self, frame: Frame, *, until: float, heard: Heard | None = None) -> Answer:
        """Write a request; its answer follows, or None at `until` or at the link's end.

        Args:
            heard: is told the answer, at once, however late it comes.

        Raises:
            NotSentError: the link has ended.
        """
        if not self.alive:
            raise NotSentError("the link was lost")
        loop = asyncio.get_running_loop()
        self._sequence = self._sequence % pdus.HIGHEST_SEQUENCE + 1
        written = frame(self._sequence)
        asked = _Asked(answer=loop.create_future(), heard=heard)
        timer = loop.call_at(until, _settle, asked.answer, None)
        asked.answer.add_done_callback(lambda _: timer.cancel())
        self._forget_the_oldest()
        self._asked[self._sequence] = asked
        self._writer.write(written)
        return asked.answer

    def respond(self, pdu: Pdu, status: Status) -> None:
        """Answer what the SMSC asked, unless the link has ended: then it will ask again."""
        if self._open:
            self._writer.write(pdus.response(pdu, status))

    async def enquire(self, *, seconds: float) -> bool:
        """Whether the SMSC answers on this link."""
        until = asyncio.get_running_loop().time() + seconds
        try:
            answer = self.ask(lambda n: pdus.frame(Command.ENQUIRE_LINK, sequence=n), until=until)
        except NotSentError:
            return False
        return await answer is not None

    async def caught_up(self, *, seconds: float) -> None:
        """Wait, for so long at most, until what is unanswered now has been answered."""
        missing = [one.answer for one in self._asked.values() if not one.answer.done()]
        if missing:
            await asyncio.wait(missing, timeout=seconds)

    def keep_alive(self, *, seconds: float) -> None:
        """Ask from time to time whether the SMSC is there, and end the link when it is not."""
        self._tasks.append(asyncio.create_task(self._enquire_on(seconds)))

    async def close(self) -> None:
        """Say good-bye and end it."""
        try:
            if self.alive:
                until = asyncio.get_running_loop().time() + _POLITE_SECONDS
                await self.ask(lambda n: pdus.frame(Command.UNBIND, sequence=n), until=until)
        finally:
            self.drop()
        await self.ended()

    def retire(self) -> None:
        """Ask nothing more on it, and end it when what was asked is answered."""
        if not self._retired:
            self._retired = True
            self._tasks.append(asyncio.create_task(self._drop_when_answered()))

    def drop(self) -> None:
        """End it at once."""
        self._writer.transport.abort()
        self._reading.cancel()
        self._end()

    @property
    def _open(self) -> bool:
        return not (self._ended or self._reader.at_eof())

    async def _drop_when_answered(self) -> None:
        await self.caught_up(seconds=_POLITE_SECONDS)
        self.drop()

    async def _enquire_on(self, seconds: float) -> None:
        answered = True
        while answered:
            await asyncio.sleep(seconds)
            answered = await self.enquire(seconds=seconds)
        self._log.warning("smpp.silent")
        self.drop()

    async def _read_all(self) -> None:
        try:
            while True:
                self._take(await pdus.read(self._reader))
        except (UnreadableError, OSError, EOFError) as error:
            self._log.info("smpp.link_lost", problem=str(error) or type(error).__name__)
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = True
        for task in self._tasks:
            task.cancel()
        self._writer.close()
        for asked in self._asked.values():
            _settle(asked.answer, None)
        self._asked.clear()

    def _take(self, pdu: Pdu) -> None:
        if pdu.is_response:
            self._answered(pdu)
            return
        match pdu.command:
            case Command.DELIVER_SM:
                self._on_delivery(self, pdu)
            case Command.ENQUIRE_LINK:
                self.respond(pdu, Status.OK)
            case Command.UNBIND:
                self.respond(pdu, Status.OK)
                self.retire()
            case _:
                nack = pdus.frame(
                    Command.GENERIC_NACK, sequence=pdu.sequence, status=Status.UNKNOWN_COMMAND
                )
                self._writer.write(nack)

    def _answered(self, pdu: Pdu) -> None:
        asked = self._asked.pop(pdu.sequence, None)
        if asked is None:
            return
        if asked.heard is not None:
            asked.heard(pdu)
        _settle(asked.answer, pdu)

    def _forget_the_oldest(self) -> None:
        """An answer may come late, and is worth having; but not for ever."""
        if len(self._asked) > _MOST_LATE:
            late = next((n for n, one in self._asked.items() if one.answer.done()), None)
            if late is not None:
                del self._asked[late]


def _settle(answer: Answer, pdu: Pdu | None) -> None:
    if not answer.done():
        answer.set_result(pdu)


def received(answer: Pdu | None) -> Pdu:
    """An answer that was waited for.

    Raises:
        AnswerLostError: there is none.
    """
    if answer is None:
        raise AnswerLostError("no answer, after the message was written")
    return answer
