"""One push message to several devices: what all push services with device tokens have in common.

The runner calls a `DevicePush`; a service's own module says how a request is written and an answer
read (`Service`). The calls for a message's tokens are made side by side within one limit of time,
and folded into the one outcome that a message can have:

    one accepted     Accepted: a repetition would notify that device twice
    an answer lost   Ambiguous, if none accepted
    account refused  Blocked, if none of the above
    one for later    TryLater: nothing was sent, so the whole message may be sent again
    all refused      Refused, for `invalid_recipient` where every device is gone

What became of each device stands in the words: in `response`, as JSON, by its place in `tokens`.
Devices that are gone are named apart (`invalid_recipients`), to be suppressed one by one; those
that are on the suppression list already (`Attempt.suppressed_recipients`) are not called.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Protocol

from consumers.sdk.http_provider import Request
from consumers.sdk.http_transport import (
    Answer,
    AnswerLostError,
    NotSentError,
    TransportError,
    outcome_of,
)
from consumers.sdk.outcomes import Accepted, AccountError, Ambiguous, Outcome, Refused, TryLater
from consumers.sdk.provider import Attempt
from schemas.events import ProviderResponse
from schemas.messages import PushMessage
from schemas.payloads import payload_violations
from schemas.vocabulary import Platform, Reason

AT_ONCE = 20  # calls for one message, so that one with 500 devices leaves others their turn
WORDS_LIMIT = 4000  # characters of what is told about devices; the ledger keeps 4096
LEFT_OUT = Refused(
    reason=Reason.SUPPRESSED,
    response=ProviderResponse(detail="on the suppression list; not called"),
)
_SHOWN = 4  # characters of a token, of its end: beginnings are often the same


class Calls(Protocol):
    """The wire, as `consumers.sdk.http_transport.HttpTransport` has it."""

    async def open(self) -> None:
        """Make the pool."""

    async def close(self) -> None:
        """Release it."""

    async def call(
        self, method: str, url: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its answer.

        Raises:
            NotSentError, AnswerLostError: there was none.
        """


class Service(Protocol):
    """One push service's way of writing requests and answers; it keeps the secrets."""

    @property
    def platform(self) -> Platform:
        """Whose tokens it takes."""

    @property
    def batch(self) -> int:
        """How many devices one request is for, at most."""

    async def credentials(self) -> Mapping[str, str] | Outcome:
        """The headers that prove the account; an outcome where they cannot be had.

        Raises:
            TransportError: whoever gives them did not answer. Nothing was sent.
        """

    def request(self, message: PushMessage, tokens: Sequence[str], attempt: Attempt) -> Request:
        """The request for some of a message's devices, without credentials."""

    def read(self, tokens: Sequence[str], answer: Answer) -> Sequence[Outcome]:
        """What an answer, of any status, means for each of the devices."""

    def probe(self) -> Request | None:
        """A request that proves the credentials and notifies nobody, without them; None where
        the service has none: then a probe shows that credentials can be had."""


@dataclass(frozen=True, slots=True)
class Device:
    """One of a message's devices and what became of its notification.

    Args:
        place: in the message's `tokens`, from 0.
    """

    place: int
    token: str
    outcome: Outcome


class DevicePush:
    """A provider of push messages to device tokens.

    Args:
        seconds: for all of a message's calls together.
    """

    def __init__(self, name: str, service: Service, transport: Calls, *, seconds: float) -> None:
        self._name, self._service, self._transport = name, service, transport
        self._seconds = seconds

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        await self._transport.open()

    async def send(self, message: PushMessage, attempt: Attempt) -> Outcome:
        problem = misfit(message, self._service.platform)
        if problem is not None:
            return Refused(reason=Reason.INVALID_CONTENT, response=ProviderResponse(detail=problem))
        until = asyncio.get_running_loop().time() + self._seconds
        headers = await self._credentials(until)
        if not isinstance(headers, Mapping):
            return headers
        turns = asyncio.Semaphore(AT_ONCE)
        tokens = [one for one in message.recipients if one not in attempt.suppressed_recipients]
        size = self._service.batch
        batches = [tokens[start : start + size] for start in range(0, len(tokens), size)]

        async def one(batch: list[str]) -> Sequence[Outcome]:
            request = self._service.request(message, batch, attempt)
            async with turns:
                answer = await self._call(_with(request, headers), until)
            if isinstance(answer, Answer):
                return self._service.read(batch, answer)
            return [outcome_of(answer)] * len(batch)

        found = chain.from_iterable(await asyncio.gather(*map(one, batches)))
        place = {token: n for n, token in reversed(list(enumerate(message.tokens)))}
        devices = [Device(place[t], t, o) for t, o in zip(tokens, found, strict=True)]
        devices += [
            Device(place[t], t, LEFT_OUT) for t in attempt.suppressed_recipients if t in place
        ]
        return folded(devices)

    async def probe(self) -> str | None:
        until = asyncio.get_running_loop().time() + self._seconds
        headers = await self._credentials(until)
        if not isinstance(headers, Mapping):
            return headers.response.detail or headers.response.code or "no credentials"
        request = self._service.probe()
        if request is None:
            return None
        answer = await self._call(_with(request, headers), until)
        if isinstance(answer, TransportError):
            return str(answer)
        if answer.status in (401, 403):
            return f"the provider refuses the account ({answer.status})"
        well = 200 <= answer.status < 300 or answer.status == 429
        return None if well else f"the provider answers {answer.status}"

    async def close(self) -> None:
        await self._transport.close()

    def __repr__(self) -> str:
        return f"DevicePush({self._name})"

    async def _credentials(self, until: float) -> Mapping[str, str] | Outcome:
        try:
            async with asyncio.timeout_at(until):
                return await self._service.credentials()
        except TimeoutError:
            return outcome_of(NotSentError("no credentials in time", reason=Reason.TIMEOUT))
        except NotSentError as error:
            return outcome_of(error)
        except TransportError as error:  # the answer to something else was lost
            return outcome_of(NotSentError(str(error)))

    async def _call(self, request: Request, until: float) -> Answer | TransportError:
        """One call that ends in time. None begins in the second half of the time: it could end
        before it had a connection, and nobody could tell whether it was written."""
        if until - asyncio.get_running_loop().time() < self._seconds / 2:
            return NotSentError("its turn did not come in time", reason=Reason.TIMEOUT)
        try:
            async with asyncio.timeout_at(until):
                return await self._transport.call(
                    request.method, request.url, body=request.body, headers=request.headers
                )
        except TimeoutError:
            return AnswerLostError("no answer in time")
        except TransportError as error:
            return error


def misfit(message: PushMessage, platform: Platform) -> str | None:
    """Why a message is not for a service with device tokens of `platform`; None if it is. The rules
    have asked the same of a message that names its platform."""
    if message.platform not in (None, platform):
        return f"it is for {message.platform}, and this provider sends to {platform}"
    if not message.tokens:
        return "it has no device tokens"
    return next((str(found) for found in payload_violations(message, platform)), None)


def seconds_to_live(message: PushMessage, now: datetime) -> int | None:
    """How long a service may keep a message for a device that is off: its `ttl`, and no longer
    than it may be sent at all; None where it says neither. 0 is now or never."""
    bounds = [] if message.ttl is None else [message.ttl]
    if message.expires_at is not None:
        bounds.append(max(0, int((message.expires_at - now).total_seconds())))
    return min(bounds, default=None)


def folded(devices: Sequence[Device]) -> Outcome:
    """The one outcome of a message with these devices, at least one; see the module."""
    if len(devices) == 1:
        (only,) = devices
        return replace(only.outcome, response=without(only.outcome.response, only.token))
    outcomes = [device.outcome for device in devices]
    invalid_recipients = tuple(
        device.token for device in devices if _is_to_be_dropped(device.outcome)
    )
    if taken := [one for one in outcomes if isinstance(one, Accepted)]:
        return Accepted(
            response=_provider_response(devices, taken[0].response),
            invalid_recipients=invalid_recipients,
        )
    for kind in (Ambiguous, AccountError):
        if first := [one for one in outcomes if isinstance(one, kind)]:
            return replace(first[0], response=_provider_response(devices, first[0].response))
    if later := [one for one in outcomes if isinstance(one, TryLater)]:
        return _later(devices, later)
    refused = [one for one in outcomes if isinstance(one, Refused) and one is not LEFT_OUT]
    chosen = next((one for one in refused if one.reason != Reason.INVALID_RECIPIENT), refused[0])
    return Refused(
        reason=chosen.reason,
        response=_provider_response(devices, chosen.response),
        invalid_recipients=invalid_recipients,
    )


def _later(devices: Sequence[Device], later: Sequence[TryLater]) -> TryLater:
    """The longest wait that was asked for. Only haste alone costs no attempt."""
    waits = [one.after for one in later if one.after is not None]
    chosen = next((one for one in later if one.reason is not Reason.RATE_LIMITED), later[0])
    response = _provider_response(devices, chosen.response)
    return TryLater(reason=chosen.reason, after=max(waits, default=None), response=response)


def _provider_response(devices: Sequence[Device], chosen: ProviderResponse) -> ProviderResponse:
    """What is told of several devices: those that did not accept come first."""
    well = sum(isinstance(device.outcome, Accepted) for device in devices)
    invalid_recipients = sum(_is_gone(device.outcome) for device in devices)
    ordered = sorted(devices, key=lambda d: (isinstance(d.outcome, Accepted), d.place))
    return ProviderResponse(
        provider_message_id=chosen.provider_message_id,
        code=chosen.code,
        detail=f"{well} of {len(devices)} devices accepted, {invalid_recipients} are gone",
        raw=listed([_told(device) for device in ordered]),
    )


def listed(told: Sequence[Mapping[str, object]], *, missing: int = 0) -> str:
    """What is told of each device, as JSON: as many as there is room for, and how many are missing
    beside those that were before (`more`)."""
    room, kept = WORDS_LIMIT, list[str]()
    for one in told:
        text = json.dumps(one, ensure_ascii=False, separators=(",", ":"))
        room -= len(text) + 1
        if room < 0:
            break
        kept.append(text)
    if more := len(told) - len(kept) + missing:
        kept.append(f'{{"more":{more}}}')
    return f"[{','.join(kept)}]"


def _told(device: Device) -> dict[str, object]:
    response = without(device.outcome.response, device.token)
    match device.outcome:
        case Accepted():
            became, said = "accepted", response.provider_message_id
        case Refused(reason=reason) | TryLater(reason=reason):
            became, said = str(reason), response.code or response.detail
        case AccountError():
            became, said = "blocked", response.code or response.detail
        case Ambiguous():
            became, said = "ambiguous", response.code or response.detail
    return {"n": device.place, "token": masked(device.token), "became": became, "said": said}


def _is_to_be_dropped(outcome: Outcome) -> bool:
    """Whether the service says of a device that it must not be notified again."""
    return isinstance(outcome, Refused) and outcome.suppress is not None


def _is_gone(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.reason is Reason.INVALID_RECIPIENT


def masked(token: str) -> str:
    """Enough of a token to recognise it among a message's, too little to reach a device."""
    bare = token.rstrip("]")
    return "…" + (bare[-_SHOWN:] if len(bare) >= 4 * _SHOWN else "")


def without(response: ProviderResponse, token: str) -> ProviderResponse:
    """The words with a token, or an endpoint, masked where the service quotes it."""

    def clean(text: str | None) -> str | None:
        return None if text is None else text.replace(token, masked(token))

    return replace(response, detail=clean(response.detail), raw=clean(response.raw))


def _with(request: Request, headers: Mapping[str, str]) -> Request:
    return replace(request, headers={**request.headers, **headers})
