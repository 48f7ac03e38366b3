"""What became of Expo's notifications: whose receipts to ask for, and what they come to.

`consumers.push.expo` asks Expo with the tickets that `tickets_of` finds in what the ledger keeps of
an attempt, and hands the receipts to a `Reader`. A receipt says whether Google or Apple took a
notification; that the device got it nobody says. So a message is

    failed      if every device of it failed, by its ticket or by its receipt
    handed on   if a device's notification was; the others are told of in the words
    open        while that is not clear: it is asked about again

https://docs.expo.dev/push-notifications/sending-notifications/#push-receipts
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from comms.platform.clock import Clock
from consumers.push.devices import listed, masked
from consumers.sdk.error_codes import Classifier, reason_of_failure
from consumers.sdk.http_provider import text_or_none
from consumers.sdk.receipt_polling import PollSchedule, ReceiptQuery
from consumers.sdk.receipts import HandedToCarrier, Receipt
from schemas.events import NO_RESPONSE, ProviderResponse
from schemas.vocabulary import Reason, SuppressionReason

# "We recommend checking push receipts 15 minutes after sending"; they "are cleared after 24 hours".
POLL_SCHEDULE = PollSchedule(ready_after=timedelta(minutes=15), kept_for=timedelta(hours=23))
# A receipt that is not there by then is not expected: the word on the other devices is given.
PATIENCE = timedelta(hours=1)

# The two forms of Expo's tokens.
_TOKEN = re.compile(
    r"Expo(?:nent)?PushToken\[[^\]]*\]|[a-z\d]{8}-[a-z\d]{4}-[a-z\d]{4}-[a-z\d]{4}-[a-z\d]{12}",
    re.IGNORECASE,
)
_ACCEPTED, _HANDED_ON, _UNCLEAR = "accepted", "handed_on", {"accepted", "ambiguous"}

Receipts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Part:
    """One of a message's devices, and what became of its notification as far as that is known.

    Args:
        shown: its place and its masked token; empty for the only one.
        said: its ticket while it is no more than accepted, else Expo's code.
        reason: of a failure; words: its receipt's; suppress: why it must not be reached again.
    """

    shown: Mapping[str, object]
    became: str
    said: str | None
    reason: Reason | None = None
    response: ProviderResponse = NO_RESPONSE
    suppress: SuppressionReason | None = None

    @property
    def is_open(self) -> bool:
        return self.became == _ACCEPTED


def tickets_of(question: ReceiptQuery) -> list[str]:
    """The tickets of a message's devices, as far as the ledger has them."""
    return [part.said for part in _parts(question)[0] if part.is_open and part.said]


class Reader:
    """Tells by their receipts what became of messages."""

    def __init__(self, classifier: Classifier, clock: Clock) -> None:
        self._classifier, self._clock = classifier, clock

    def word(self, question: ReceiptQuery, receipts: Receipts) -> Receipt | HandedToCarrier | None:
        """What became of a message; None while that is open."""
        asked, missing = _parts(question)
        parts = [self._after(part, receipts) for part in asked]
        if question.age < PATIENCE and any(part.is_open for part in parts):
            return None
        response = _provider_response(parts, missing)
        response = replace(response, provider_message_id=question.provider_message_id)
        if any(part.became == _HANDED_ON for part in parts):
            return HandedToCarrier(
                message_id=question.message_id, occurred_at=self._clock(), response=response
            )
        if missing or any(part.became in _UNCLEAR for part in parts):
            return None
        return Receipt(
            message_id=question.message_id,
            delivered=False,
            occurred_at=self._clock(),
            reason=_chosen(parts).reason or Reason.UNDELIVERED,
            response=response,
            # As with tickets: only a message's only device is put on the suppression list.
            suppress=parts[0].suppress if len(parts) == 1 else None,
        )

    def _after(self, part: _Part, receipts: Receipts) -> _Part:
        """The same device with its receipt, if it has one by now."""
        receipt = receipts.get(part.said or "", {}) if part.is_open else {}
        match receipt.get("status"):
            case "ok":
                response = replace(_words_of(receipt), detail="Google or Apple took it")
                return replace(part, became=_HANDED_ON, response=response)
            case "error":
                response = _words_of(receipt)
                meaning = self._classifier.of_receipt(response.code)
                reason = reason_of_failure(meaning)
                return replace(
                    part,
                    became=str(reason),
                    said=response.code or response.detail,
                    reason=reason,
                    response=response,
                    suppress=None if meaning is None else meaning.suppress,
                )
            case _:
                return part


def _parts(question: ReceiptQuery) -> tuple[list[_Part], int]:
    """A message's devices out of what `consumers.push.devices` wrote, and how many of them found
    no room there."""
    try:
        told = json.loads(question.response or "")
    except ValueError:
        told = None
    if not isinstance(told, list):  # the ticket of the only one
        return [_Part({}, _ACCEPTED, question.provider_message_id)], 0
    devices = [one for one in told if isinstance(one, dict)]
    missing = sum(one.get("more", 0) for one in devices)
    return [_part(one) for one in devices if "more" not in one], missing


def _part(told: Mapping[str, Any]) -> _Part:
    became = str(told.get("became"))
    shown = {name: told.get(name) for name in ("n", "token")}
    refusals = [Reason.INVALID_RECIPIENT, Reason.INVALID_CONTENT]
    reason = next((one for one in refusals if one == became), Reason.UNDELIVERED)
    return _Part(shown, became, text_or_none(told.get("said")), reason)


def _chosen(parts: Sequence[_Part]) -> _Part:
    """The device that stands for a message that failed: one that is not gone, if there is one."""
    there = (part for part in parts if part.reason is not Reason.INVALID_RECIPIENT)
    return next(there, parts[0])


def _provider_response(parts: Sequence[_Part], missing: int) -> ProviderResponse:
    if len(parts) == 1 and not missing:
        return parts[0].response
    well = sum(part.became == _HANDED_ON for part in parts)
    gone = sum(part.became == Reason.INVALID_RECIPIENT for part in parts)
    told = [{**p.shown, "became": p.became, "said": p.said} for p in parts]
    return ProviderResponse(
        code=None if well else _chosen(parts).said,
        detail=f"{well} of {len(parts) + missing} devices handed on, {gone} are gone",
        raw=listed(sorted(told, key=lambda one: one["became"] == _HANDED_ON), missing=missing),
    )


def _words_of(receipt: Mapping[str, Any]) -> ProviderResponse:
    """A receipt's words. Beside the error its details may hold what Google and Apple know a device
    by, so no more of them is kept."""
    details = receipt.get("details")
    code = text_or_none(details.get("error")) if isinstance(details, dict) else None
    detail = _masked(text_or_none(receipt.get("message")))
    kept = {"status": receipt["status"], "message": detail, "details": code and {"error": code}}
    shown = {name: value for name, value in kept.items() if value is not None}
    return ProviderResponse(
        code=code,
        detail=detail,
        raw=json.dumps(shown, ensure_ascii=False, separators=(",", ":")),
    )


def _masked(text: str | None) -> str | None:
    return None if text is None else _TOKEN.sub(lambda token: masked(token[0]), text)
