"""What a `deliver_sm` says: a receipt, or what a person wrote.

The adapter's `listen` reads each one here. A receipt names its message by the SMSC's id alone, so
the ids of what this process has sent are remembered (`SentIds`): it finds its message even before
the ledger has the call's outcome. Any other receipt (of another process, or from before a restart)
is `UnmatchedReceipt`, and looked for in the ledger.

A long text has a receipt for each of its parts. The last part's tells that it was delivered, as its
id is the message's; any part's failure is the message's failure, where the part is remembered.

What is a receipt shows in `esm_class`, or in a parameter that the network alone can write, never in
the text: anybody can write `id:1 stat:DELIVRD`.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from comms.platform.clock import Clock
from consumers.sdk.error_codes import Classifier, Meaning, reason_of_failure
from consumers.sdk.receipts import Inbound, ReceiptEvent, UnmatchedReceipt
from consumers.sms.smpp import text
from consumers.sms.smpp.errors import DELIVERED, FAILED, STATES
from consumers.sms.smpp.pdu import Address, Delivery
from schemas.events import ProviderResponse

_MOST_REMEMBERED = 50_000  # ids; some 15 MB
_RECEIPTED_MESSAGE_ID, _MESSAGE_STATE, _SAR_SEGMENT = 0x001E, 0x0427, 0x020F
_KIND, _RECEIPT, _PLAIN, _HEADED = 0x3C, 0x04, 0x00, 0x40  # of esm_class
_NATIONAL = frozenset({2, 3, 4, 5, 6})  # types of numbers that are not to be taken for E.164
_TELLING_DIGITS = 7  # of a number, from its end
_HEX = re.compile(r"[0-9a-fA-F]+")

# Appendix B: id:… sub:… dlvrd:… submit date:… done date:… stat:… err:… text:…
_ID, _STAT = re.compile(r"\bid:\s*(\S+)", re.I), re.compile(r"\bstat:\s*(\w+)", re.I)
_ERR, _TEXT = re.compile(r"\berr:\s*(\w+)", re.I), re.compile(r"\s*\btext:.*", re.I | re.S)


class IdForm(StrEnum):
    """How receipts write the ids of `submit_sm_resp`."""

    SAME = "same"
    DECIMAL = "decimal"  # the answers' are hexadecimal
    HEX = "hex"  # the answers' are decimal

    def of_answer(self, theirs: str) -> str:
        """An answer's id as receipts will have it; the message's id from then on."""
        if self is IdForm.DECIMAL and _HEX.fullmatch(theirs):
            return str(int(theirs, 16))
        if self is IdForm.HEX and theirs.isdecimal():
            return f"{int(theirs):x}"
        return theirs

    def of_receipt(self, theirs: str) -> str:
        """A receipt's id, without what only pads it."""
        if self is IdForm.SAME:
            return theirs
        return theirs.lower().lstrip("0") or theirs


@dataclass(slots=True, eq=False)
class Sending:
    """What is known of one call: the ids of its parts, as they are answered."""

    message_id: UUID
    parts: int
    ids: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.ids) == self.parts


class SentIds:
    """The calls of this process by the SMSC's ids, the newest so many."""

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._known: OrderedDict[str, Sending] = OrderedDict()
        self._most = most
        self._expected: Counter[str] = Counter()

    def add(self, theirs: str, sending: Sending) -> None:
        """One more part was taken, as `theirs`; an SMSC that gives no ids sends no receipts."""
        sending.ids.append(theirs)
        if not theirs:
            return
        self._known[theirs] = sending
        self._known.move_to_end(theirs)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def get(self, theirs: str) -> Sending | None:
        return self._known.get(theirs)

    @contextmanager
    def expected(self, number: str) -> Iterator[None]:
        """While something to a number is being submitted, and its id is not known yet."""
        end = _end_of(number)
        self._expected[end] += 1
        try:
            yield
        finally:
            self._expected[end] -= 1
            if not self._expected[end]:
                del self._expected[end]

    def is_expected(self, number: str) -> bool:
        """Whether something to it is; SMSCs write a country's own form, too."""
        return _end_of(number) in self._expected


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A receipt's fields. `state` is a word of appendix B."""

    theirs: str
    state: str
    error: str | None
    response: str


class DeliveryReader:
    """Turns deliveries into what the desk takes."""

    def __init__(
        self, *, form: IdForm, sent: SentIds, classifier: Classifier, clock: Clock
    ) -> None:
        self._form, self._sent = form, sent
        self._classifier, self._clock = classifier, clock

    def read(self, delivery: Delivery) -> ReceiptEvent | None:
        """What it says; None where that is nothing final, or nothing to us."""
        if _is_receipt(delivery):
            found = self._found(delivery)
            return None if found is None else self._receipt(found)
        return _inbound(delivery) if delivery.esm_class & _KIND == _PLAIN else None

    def may_overtake(self, delivery: Delivery) -> bool:
        """Whether it is a receipt of what may be among the submissions that are not answered."""
        found = self._found(delivery) if _is_receipt(delivery) else None
        if found is None or self._sent.get(found.theirs) is not None:
            return False
        numbers = (delivery.source.value, delivery.destination)
        return any(self._sent.is_expected(one) for one in numbers)

    def _found(self, delivery: Delivery) -> _Found | None:
        said = delivery.content.decode("latin-1")
        theirs = _string(delivery, _RECEIPTED_MESSAGE_ID) or _field(_ID, said)
        number = delivery.parameters.get(_MESSAGE_STATE, b"")
        state = STATES.get(number[0]) if number else (_field(_STAT, said) or "").upper()
        if not theirs or not state:
            return None
        return _Found(
            theirs=self._form.of_receipt(theirs),
            state=state,
            error=_field(_ERR, said),
            # What follows is the beginning of what was sent.
            response=_TEXT.sub("", said) or f"id:{theirs} stat:{state}",
        )

    def _receipt(self, found: _Found) -> ReceiptEvent | None:
        delivered = found.state == DELIVERED
        if not delivered and found.state not in FAILED:
            if found.state not in STATES.values():
                self._classifier.of_receipt(found.state)  # counts it
            return None
        sending = self._sent.get(found.theirs)
        if sending is None:
            return self._unplaced(found, found.theirs)
        decides = sending.complete and sending.ids[-1] == found.theirs
        if delivered and not decides:
            return None
        theirs = sending.ids[-1] if sending.complete else found.theirs
        return self._unplaced(found, theirs).of(sending.message_id)

    def _unplaced(self, found: _Found, theirs: str) -> UnmatchedReceipt:
        meaning: Meaning | None = FAILED.get(found.state)
        failed_by = f":{found.error}" if meaning is not None and found.error else ""
        return UnmatchedReceipt(
            delivered=meaning is None,
            # An SMSC writes its own local time, and does not say which.
            occurred_at=self._clock(),
            reason=reason_of_failure(meaning),
            response=ProviderResponse(
                provider_message_id=theirs,
                code=f"{found.state}{failed_by}",
                raw=found.response,
            ),
        )


def _end_of(number: str) -> str:
    return number[-_TELLING_DIGITS:]


def _is_receipt(delivery: Delivery) -> bool:
    kind = delivery.esm_class & _KIND
    return kind == _RECEIPT or (kind == _PLAIN and _RECEIPTED_MESSAGE_ID in delivery.parameters)


def _string(delivery: Delivery, tag: int) -> str:
    return delivery.parameters.get(tag, b"").partition(b"\0")[0].decode("ascii", "replace")


def _field(pattern: re.Pattern[str], said: str) -> str | None:
    found = pattern.search(said)
    return found[1] if found else None


def _inbound(delivery: Delivery) -> Inbound | None:
    """What a person wrote. Of a long text the first part alone: a later one may be as short as a
    word that it is not."""
    content = delivery.content
    place = int.from_bytes(delivery.parameters.get(_SAR_SEGMENT, b"\1"))
    if delivery.esm_class & _HEADED:
        content, place = text.without_header(content)
    if place != 1:
        return None
    return Inbound(
        from_=_number(delivery.source),
        to=delivery.destination,
        text=text.decode(content, delivery.data_coding),
    )


def _number(address: Address) -> str:
    """A person's number as we write it; SMSCs leave the plus out."""
    plain = address.value.isdecimal() and address.ton not in _NATIONAL
    return f"+{address.value}" if plain else address.value
