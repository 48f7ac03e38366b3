"""Text messages over SMPP 3.4, the protocol of carriers and their gateways.

The runner calls it like every provider, and runs its `listen` beside that; both use one
bind_transceiver that is kept. The protocol has no idempotency key. A text of several parts is
several submissions, made one after another in one turn, and one message all the same:

    all taken                       Accepted, with the last part's id, whose receipt decides
    the first refused               what the refusal means: nothing was sent
    a later one refused for good    Refused: the text will never be whole, and the detail counts
                                    the parts that were taken
    broken off otherwise            Ambiguous: some parts are on their way, the rest may be

A later part that is refused for our haste alone is offered again while there is time: every one of
those refusals is certain, and a text is worth finishing.
"""

import asyncio
from dataclasses import replace
from functools import partial

from comms.platform.clock import Clock, utc_now
from consumers.sdk.error_codes import LIMITED, Classifier, ErrorTable
from consumers.sdk.http_transport import NotSentError, TransportError, outcome_of
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused
from consumers.sdk.provider import Attempt
from consumers.sdk.receipt_stream import StoreReceipts
from consumers.sms.smpp.binding import Binding, Turn
from consumers.sms.smpp.connecting import BindRefusedError, Server
from consumers.sms.smpp.errors import NAMES, UNLISTED, code_of
from consumers.sms.smpp.hearing import Ear
from consumers.sms.smpp.pdu import Pdu, Status, Submission
from consumers.sms.smpp.receipts import DeliveryReader, IdForm, Sending, SentIds
from consumers.sms.smpp.submissions import Style
from consumers.sms.smpp.text import TooLongError
from schemas.events import ProviderResponse
from schemas.messages import SmsMessage
from schemas.vocabulary import Channel, Reason

_GO_ON_SECONDS = 0.5  # until a part that was refused for our haste is offered again


class SmppProvider:
    """An SMSC.

    Args:
        timeout_seconds: of one message, its turn included.
        window: how many submissions may be unanswered.
        ids: how receipts write the ids of answers; table: what its codes mean.
    """

    def __init__(
        self,
        name: str,
        server: Server,
        style: Style,
        *,
        timeout_seconds: float,
        window: int,
        ids: IdForm,
        table: ErrorTable,
        clock: Clock = utc_now,
    ) -> None:
        self._name, self._style, self._timeout, self._ids = name, style, timeout_seconds, ids
        self._table, self._clock = table, clock
        self._classifier = Classifier(table, channel=Channel.SMS, provider=name)
        self._sent = SentIds()
        reader = DeliveryReader(form=ids, sent=self._sent, classifier=self._classifier, clock=clock)
        self._ear = Ear(reader, channel=Channel.SMS, provider=name)
        self._binding = Binding(server, window=window, on_delivery=self._ear.hear)

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        self._binding.open()

    async def send(self, message: SmsMessage, attempt: Attempt) -> Outcome:
        until = asyncio.get_running_loop().time() + self._timeout
        try:
            parts = self._style.submissions(message, attempt, now=self._clock())
        except TooLongError as error:
            response = ProviderResponse(detail=str(error))
            return Refused(reason=Reason.INVALID_CONTENT, response=response)
        sending = Sending(message_id=attempt.message_id, parts=len(parts))
        try:
            async with self._binding.turn(until=until) as turn:
                with self._sent.expected(message.to):
                    answer = await self._submit_all(turn, parts, sending, until=until)
        except BindRefusedError as error:
            return self._not_bound(error)
        except TransportError as error:
            return _broken_off(sending, outcome_of(error))
        if answer.status == Status.OK:
            return Accepted(response=_provider_response(answer, sending))
        response, own_sender = _provider_response(answer, sending), message.sender is not None
        refusal = self._classifier.outcome(response, status=UNLISTED, own_sender=own_sender)
        return _broken_off(sending, refusal)

    async def listen(self, tell: StoreReceipts) -> None:
        await self._ear.tell_all(tell)

    async def probe(self) -> str | None:
        try:
            await self._binding.check(seconds=self._timeout)
        except BindRefusedError as error:
            return f"{error} ({NAMES.get(error.status, 'a code of its own')})"
        except NotSentError as error:
            return str(error)
        return None

    async def close(self) -> None:
        await self._binding.close()

    def __repr__(self) -> str:
        return f"SmppProvider({self._name})"

    async def _submit_all(
        self, turn: Turn, parts: list[Submission], sending: Sending, *, until: float
    ) -> Pdu:
        """The parts, each after the one before was taken; the last answer, or the refusal."""
        *before, last = parts
        for part in before:
            answer = await self._submit(turn, part, sending, until=until)
            if answer.status != Status.OK:
                return answer
        return await self._submit(turn, last, sending, until=until)

    async def _submit(self, turn: Turn, part: Submission, sending: Sending, *, until: float) -> Pdu:
        loop, heard = asyncio.get_running_loop(), partial(self._remember, sending)
        while True:
            answer = await turn.submit(part, until=until, heard=heard)
            begun, in_time = bool(sending.ids), loop.time() + _GO_ON_SECONDS < until
            if not (begun and in_time and self._is_haste(answer)):
                return answer
            await asyncio.sleep(_GO_ON_SECONDS)

    def _is_haste(self, answer: Pdu) -> bool:
        return self._table.codes.get(code_of(answer.status)) is LIMITED

    def _remember(self, sending: Sending, answer: Pdu) -> None:
        if answer.status == Status.OK:
            self._sent.add(self._ids.of_answer(answer.first_string()), sending)

    def _not_bound(self, error: BindRefusedError) -> Outcome:
        """Whatever of our table the SMSC refuses, it is no message's fault."""
        code = code_of(error.status)
        detail = f"the bind was refused: {NAMES.get(error.status, 'a code of its own')}"
        response = ProviderResponse(code=code, detail=detail, raw=f"command_status={code}")
        outcome = self._classifier.outcome(response, status=UNLISTED)
        return AccountError(response=response) if isinstance(outcome, Refused) else outcome


def _broken_off(sending: Sending, outcome: Outcome) -> Outcome:
    """What a call comes to whose last part was not taken; as the module's table has it."""
    if not sending.ids:
        return outcome
    taken = f"{len(sending.ids)} of {sending.parts} parts were taken"
    response = outcome.response
    told = replace(
        response,
        detail=f"{taken}; {response.detail}" if response.detail else taken,
        raw=response.raw or f"message_ids={','.join(sending.ids)}",
    )
    return (
        replace(outcome, response=told)
        if isinstance(outcome, Refused)
        else Ambiguous(response=told)
    )


def _provider_response(answer: Pdu, sending: Sending) -> ProviderResponse:
    code, ids = code_of(answer.status), ",".join(sending.ids)
    taken = answer.status == Status.OK
    return ProviderResponse(
        provider_message_id=(sending.ids[-1] or None) if taken else None,
        code=code,
        detail=NAMES.get(answer.status),
        raw=f"command_status={code}" + (f" message_ids={ids}" if ids else ""),
    )
