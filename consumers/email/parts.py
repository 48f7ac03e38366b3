"""What the e-mail APIs have in common: a message's parts, and our mark that receipts bring back.

Their adapters write requests from `Parts`, through `written`, and put `mark_of` into the field that
the provider returns with each event; their receipt parsers ask `ours` whose event it is. Providers
report on every recipient of a mail, and a message is about `to` alone: what became of a copy is not
what became of the message.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.headerregistry import Address
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from consumers.email.mime import InvalidContentError, address_of, domain_of, own_headers
from consumers.sdk.http_provider import Request
from consumers.sdk.options import CallOptions, Text
from consumers.sdk.outcomes import Refused
from consumers.sdk.receipts import Receipt, UnmatchedReceipt, uuid_or_none
from schemas.events import ProviderResponse
from schemas.messages import Attachment, EmailMessage
from schemas.rules.checks import is_one_line
from schemas.vocabulary import Reason

MARK = "comms_message"  # the name of our mark among a provider's tags or variables
HEAVY_BYTES = 200_000  # of attachments: a request is then written on another thread


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Parts:
    """A message as APIs want it: checked addresses, each once, and headers that are its own."""

    sender: Address
    to: Address
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: Address | None
    headers: tuple[tuple[str, str], ...]
    bodies: tuple[tuple[str, str], ...]
    """Content type and text, those that are not empty, the plain one first."""


def parts_of(message: EmailMessage, *, default_from: str) -> Parts:
    """The parts of a message.

    Args:
        default_from: the sender, where the message names none.

    Raises:
        InvalidContentError: an address or a header cannot be written.
    """
    try:
        to = address_of(message.to)
        cc = _others(message.cc, (to,))
        return Parts(
            sender=address_of(message.sender or default_from),
            to=to,
            cc=cc,
            bcc=_others(message.bcc, (to, *cc)),
            reply_to=address_of(message.reply_to) if message.reply_to else None,
            headers=tuple(_one_line(name, value) for name, value in own_headers(message).items()),
            bodies=tuple(
                (kind, text)
                for kind, text in (("text/plain", message.text), ("text/html", message.html))
                if text
            ),
        )
    except ValueError as error:
        raise InvalidContentError("an address that cannot be written") from error


async def written(message: EmailMessage, write: Callable[[], Request]) -> Request | Refused:
    """What `write` makes; a refusal where the message cannot be written.

    A heavy message is written on another thread, for the sake of the other calls.
    """
    try:
        if sum(len(attachment.content) for attachment in message.attachments) < HEAVY_BYTES:
            return write()
        return await asyncio.to_thread(write)
    except InvalidContentError as error:
        return Refused(reason=Reason.INVALID_CONTENT, response=ProviderResponse(detail=str(error)))


def encoded(attachment: Attachment) -> str:
    """An attachment's content in base64."""
    return b64encode(attachment.content).decode()


def check_address(value: str) -> str:
    """Return an e-mail address, with or without a display name.

    Raises:
        ValueError: it is none.
    """
    try:
        domain_of(value)
    except (InvalidContentError, ValueError) as error:
        raise ValueError("must be an e-mail address") from error
    return value


MailAddress = Annotated[Text, AfterValidator(check_address)]


class EmailApiOptions(CallOptions):
    """The options that all e-mail APIs have.

    Attributes:
        sender: the sender of messages that name none.
    """

    sender: MailAddress = Field(alias="from")


def mark_of(message: EmailMessage) -> str:
    """Our mark in a mail: the message's id and, where there are copies, which recipient is `to`,
    in letters, digits, `-` and `_`. It tells nobody else anything."""
    if not message.cc and not message.bcc:
        return str(message.id)
    return f"{message.id}_{_fingerprint(message.id, message.to)}"


def ours(said: UnmatchedReceipt, *, mark: object, recipient: object) -> list[Receipt]:
    """The receipt of our message; none where an event is about a copy, or no mail of ours.

    Args:
        mark: what came back in place of `mark_of`; recipient: whom the event is about, None where
            the provider does not say: of a mail with copies it then speaks of nobody.
    """
    id_, _, fingerprint = str(mark).partition("_")
    message_id = uuid_or_none(id_)
    if message_id is None:
        return []
    if fingerprint and fingerprint != _fingerprint(message_id, str(recipient or "")):
        return []
    return [said.of(message_id)]


def _others(written: Iterable[str], known: Iterable[Address]) -> tuple[Address, ...]:
    found = {one.addr_spec.lower(): one for one in map(address_of, reversed(tuple(written)))}
    for one in known:
        found.pop(one.addr_spec.lower(), None)
    return tuple(reversed(found.values()))


def _one_line(name: str, value: str) -> tuple[str, str]:
    if not is_one_line(value):
        raise InvalidContentError("headers: a value of more than one line")
    return name, value


def _fingerprint(message_id: UUID, recipient: str) -> str:
    try:
        spec = address_of(recipient).addr_spec.lower()
    except (InvalidContentError, ValueError):
        spec = recipient
    return sha256(f"{message_id}:{spec}".encode()).hexdigest()[:16]
