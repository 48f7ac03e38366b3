"""From an `EmailMessage` of ours to the bytes of RFC 5322 and the envelope that carries them.

The SMTP adapter calls `compose` for every attempt. Everything but the boundaries between parts is
derived from the message, Message-ID and Date too: a mail sent twice is recognisably the same mail.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage as Mime
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, parseaddr

from schemas.messages import EmailMessage

# What the adapter itself writes, and what only mail servers may.
_OURS = frozenset(
    {
        *("from", "sender", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id"),
        *("mime-version", "return-path", "received", "dkim-signature"),
    }
)


class InvalidContentError(Exception):
    """The message cannot be written as a mail; says what is wrong without quoting it."""


@dataclass(frozen=True, slots=True, repr=False)
class Mail:
    """What goes over the wire: the envelope and the bytes.

    Args:
        others: those beside `to` who get it, cc and bcc alike.
        needs_utf8: an address has letters that only SMTPUTF8 carries.
    """

    sender: str
    to: str
    others: tuple[str, ...]
    content: bytes
    needs_utf8: bool


def compose(message: EmailMessage, *, default_from: str, return_path: str | None = None) -> Mail:
    """The mail of a message.

    Args:
        default_from: the sender, where the message names none.
        return_path: where bounces go; the sender when None.

    Raises:
        InvalidContentError: an address, a header or an attachment cannot be written.
    """
    try:
        return _compose(message, message.sender or default_from, return_path)
    except (MessageError, ValueError, LookupError, AttributeError) as error:
        raise InvalidContentError(f"not writable as a mail ({type(error).__name__})") from error


def domain_of(address: str) -> str:
    """The domain of an address, in the ASCII form that DNS knows.

    Raises:
        InvalidContentError, ValueError: it has none, or one that cannot be written so.
    """
    return address_of(address).domain


def address_of(written: str) -> Address:
    """An address with its display name, its domain in the ASCII form that DNS knows.

    Raises:
        InvalidContentError, ValueError: it is none, or one that cannot be written so.
    """
    name, spec = parseaddr(written)
    user, at, domain = spec.rpartition("@")
    if not at or not user or not domain:
        raise InvalidContentError("an address that is none")
    return Address(name, user, _ascii_domain(domain))


def own_headers(message: EmailMessage) -> Mapping[str, str]:
    """The headers that the message brings along, none of which is the mail's own.

    Raises:
        InvalidContentError: one is, or has no name that can be written.
    """
    for name in message.headers:
        lower = name.lower()
        if lower in _OURS or lower.startswith(("content-", "resent-")):
            raise InvalidContentError(f"headers: {lower} is not the sender's to set")
        if not lower.isascii() or not all("!" <= char <= "~" and char != ":" for char in name):
            raise InvalidContentError("headers: a name that is none")
    return message.headers


def _compose(message: EmailMessage, author: str, return_path: str | None) -> Mail:
    sender, to = address_of(author), address_of(message.to)
    cc, bcc = _addresses(message.cc), _addresses(message.bcc)
    reply_to = _addresses([message.reply_to] if message.reply_to else [])
    envelope_sender = address_of(return_path) if return_path else sender
    everybody = (sender, to, *cc, *bcc, *reply_to, envelope_sender)
    needs_utf8 = not all(one.addr_spec.isascii() for one in everybody)
    # Seven bits a byte: what every server takes, whatever it offers.
    mime = Mime(policy=(SMTPUTF8 if needs_utf8 else SMTP).clone(cte_type="7bit"))
    mime["From"], mime["To"] = sender, to
    if cc:
        mime["Cc"] = cc
    if reply_to:
        mime["Reply-To"] = reply_to
    mime["Subject"] = message.subject
    mime["Date"] = format_datetime(message.send_at or message.created_at)
    mime["Message-ID"] = f"<{message.id}@{sender.domain}>"
    for name, value in own_headers(message).items():
        mime[name] = value
    _write_body(mime, message)
    others = tuple(dict.fromkeys(one.addr_spec for one in (*cc, *bcc)))
    return Mail(
        sender=envelope_sender.addr_spec,
        to=to.addr_spec,
        others=tuple(one for one in others if one != to.addr_spec),
        content=mime.as_bytes(),
        needs_utf8=needs_utf8,
    )


def _write_body(mime: Mime, message: EmailMessage) -> None:
    if message.text is not None or message.html is None:
        mime.set_content(message.text or "")
        if message.html is not None:
            mime.add_alternative(message.html, subtype="html")
    else:
        mime.set_content(message.html, subtype="html")
    for attachment in message.attachments:
        main, _, sub = attachment.content_type.partition(";")[0].strip().partition("/")
        if main.lower() in ("multipart", "message"):
            main, sub = "application", "octet-stream"  # not to be taken for parts of this mail
        mime.add_attachment(
            attachment.content,
            maintype=main or "application",
            subtype=sub or "octet-stream",
            filename=attachment.filename,
        )


def _addresses(written: Iterable[str]) -> tuple[Address, ...]:
    return tuple(address_of(one) for one in written)


def _ascii_domain(domain: str) -> str:
    return domain if domain.isascii() else domain.encode("idna").decode("ascii")
