"""From an `EmailMessage` of ours to the bytes of RFC 5322 and the envelope that carries them.

The SMTP adapter calls `compose` for every attempt. Everything but the boundaries between parts is
derived from the message, Message-ID and Date too: a mail sent twice is recognisably the same mail.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage as Mime
from email.message import MIMEPart
from email.policy import SMTP, SMTPUTF8, Policy
from email.utils import format_datetime, parseaddr

from schemas.messages import Attachment, EmailMessage
from schemas.rules.email import LIST_UNSUBSCRIBE, LIST_UNSUBSCRIBE_POST, ONE_CLICK, is_reserved

_FOLDED_AT = 78  # characters, where there is a space; RFC 5322


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
    """The headers that the message brings along, none of which is the mail's own, and those of its
    address to unsubscribe at.

    Raises:
        InvalidContentError: one is the mail's, or has no name that can be written.
    """
    for name in message.headers:
        if is_reserved(name):
            raise InvalidContentError(f"headers: {name.lower()} is not the sender's to set")
        if not all("!" <= char <= "~" and char != ":" for char in name):
            raise InvalidContentError("headers: a name that is none")
    if message.unsubscribe_url is None:
        return message.headers
    return {
        **message.headers,
        LIST_UNSUBSCRIBE: f"<{message.unsubscribe_url}>",
        LIST_UNSUBSCRIBE_POST: ONE_CLICK,
    }


def _compose(message: EmailMessage, author: str, return_path: str | None) -> Mail:
    sender, to = address_of(author), address_of(message.to)
    cc, bcc = _addresses(message.cc), _addresses(message.bcc)
    reply_to = _addresses([message.reply_to] if message.reply_to else [])
    envelope_sender = address_of(return_path) if return_path else sender
    everybody = (sender, to, *cc, *bcc, *reply_to, envelope_sender)
    needs_utf8 = not all(one.addr_spec.isascii() for one in everybody)
    # Seven bits a byte: what every server takes, whatever it offers.
    policy = SMTPUTF8 if needs_utf8 else SMTP
    mime = Mime(policy=policy.clone(cte_type="7bit", header_factory=_HEADERS))
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
    """Files beside bodies, the text before the html it stands in for, images inside the html:
    mixed(alternative(text, related(html, images)), files), without what there is nothing for."""
    html: MIMEPart = mime
    if message.text or not message.html:
        mime.set_content(message.text or "")
        if message.html:
            mime.add_alternative(message.html, subtype="html")
            html = list(mime.iter_parts())[-1]
    else:
        mime.set_content(message.html, subtype="html")
    for image in message.attachments:
        if image.content_id is not None:
            _add_image(html, image, image.content_id)
    for file in message.attachments:
        if file.content_id is None:
            main, sub = _kind(file)
            mime.add_attachment(file.content, maintype=main, subtype=sub, filename=file.filename)


def _add_image(html: MIMEPart, image: Attachment, content_id: str) -> None:
    main, sub = _kind(image)
    html.add_related(
        image.content,
        maintype=main,
        subtype=sub,
        filename=image.filename,
        disposition="inline",
        cid=f"<{content_id}>",
    )


def _kind(attachment: Attachment) -> tuple[str, str]:
    main, _, sub = attachment.content_type.partition(";")[0].strip().partition("/")
    if main.lower() in ("multipart", "message"):
        return "application", "octet-stream"  # not to be taken for parts of this mail
    return main or "application", sub or "octet-stream"


class _AsItIs(UnstructuredHeader, BaseHeader):
    """A header of the sender's, such as an address to unsubscribe at: folded at its spaces alone.
    The standard library would encode a word that does not fit in a line, and who looks for an
    address there finds none."""

    def fold(self, *, policy: Policy) -> str:
        if not self.isascii():
            return super().fold(policy=policy)
        first, *words = self.strip().split(" ")
        lines, line = list[str](), f"{self.name}: {first}"
        for word in words:
            if line.strip() and len(line) + 1 + len(word) > _FOLDED_AT:
                lines.append(line)
                line = ""
            line += f" {word}"
        return policy.linesep.join((*lines, line)) + policy.linesep


_HEADERS = HeaderRegistry(default_class=_AsItIs)


def _addresses(written: Iterable[str]) -> tuple[Address, ...]:
    return tuple(address_of(one) for one in written)


def _ascii_domain(domain: str) -> str:
    return domain if domain.isascii() else domain.encode("idna").decode("ascii")
