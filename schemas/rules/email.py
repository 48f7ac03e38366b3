"""The rules for e-mails: addresses, bodies, headers, unsubscription, files and images.

What they let pass can be written as a mail. Adapters ask `is_reserved` about headers again, as
messages of an older version's rules may still be on their way.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from email_validator import EmailNotValidError, validate_email

from schemas.errors import Violation
from schemas.messages import Attachment, EmailMessage
from schemas.rules.words import CONTROL, is_https, is_one_line, size_of, word

EMAIL_BODY_LIMIT = 2 * 1024 * 1024  # bytes of text and html together
ATTACHMENTS_LIMIT = 5 * 1024 * 1024  # bytes of all attachments together, decoded
ATTACHMENTS_COUNT = 25
COPIES_LIMIT = 50  # addresses in cc, and in bcc
HEADERS_COUNT = 50
LINE_LIMIT = 998  # characters of a header line, RFC 5322
# Of an address to unsubscribe at: its header must not be broken, and a line ends at 998.
UNSUBSCRIBE_LIMIT = 900
CONTENT_ID_LIMIT = 127  # characters; Resend takes no more

LIST_UNSUBSCRIBE, LIST_UNSUBSCRIBE_POST = "List-Unsubscribe", "List-Unsubscribe-Post"
ONE_CLICK = "List-Unsubscribe=One-Click"

_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105 - the grammar's word, no secret
_CONTENT_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(\s*;\s*{_TOKEN}=({_TOKEN}|"[^"\\]*"))*')
_CONTENT_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+@-]{{0,{CONTENT_ID_LIMIT - 1}}}")
# `src="cid:logo"`, and `url(cid:logo)` of a style; not where a text speaks of such a thing.
# Spaces are bounded, for the sake of time: bodies are large.
_SHOWN = re.compile(r"""(?:=\s{0,9}|\burl\(\s{0,9})["']?\s{0,9}cid:([^"'\s<>)]+)""", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"<\s*([^<>\s]+)\s*>")

# Written by the system itself, or by mail servers: a second one would redirect or disguise the
# message.
_RESERVED_HEADERS = frozenset(
    {
        *("from", "to", "cc", "bcc", "reply-to", "sender", "return-path", "subject", "date"),
        *("message-id", "received", "mime-version", "dkim-signature"),
    }
)
_RESERVED_BEGINNINGS = ("content-", "resent-")


def is_reserved(header: str) -> bool:
    """Whether a header is not the sender's to set."""
    lower = header.lower()
    return lower in _RESERVED_HEADERS or lower.startswith(_RESERVED_BEGINNINGS)


def email(message: EmailMessage) -> Iterator[Violation]:
    """What is wrong with an e-mail."""
    yield from _address("to", message.to)
    for field, copies in (("cc", message.cc), ("bcc", message.bcc)):
        if len(copies) > COPIES_LIMIT:
            yield Violation(field, f"must have at most {COPIES_LIMIT} addresses")
        for n, address in enumerate(copies):
            yield from _address(f"{field}[{n}]", address)
    for field, one in (("reply_to", message.reply_to), ("from", message.sender)):
        if one is not None:
            yield from _address(field, one)
    if not message.subject.strip() or len(message.subject) > LINE_LIMIT:
        yield Violation("subject", f"must have 1 to {LINE_LIMIT} characters")
    if not is_one_line(message.subject):
        yield Violation("subject", "must be one line, without control characters")
    yield from _bodies(message.text, message.html)
    yield from _headers(message.headers)
    yield from _unsubscription(message)
    yield from _attachments(message.attachments)
    yield from _images(message.html or "", message.attachments)


def _address(field: str, value: str) -> Iterator[Violation]:
    if not is_one_line(value) or len(value) > LINE_LIMIT:
        yield Violation(field, "must be one line")
        return
    try:
        # `.test` is reserved for trying things out, which senders do.
        validate_email(
            value, check_deliverability=False, allow_display_name=True, test_environment=True
        )
    except EmailNotValidError as error:
        # After a colon or in brackets the sentence quotes from the address.
        problem = re.split(r"[:(]", str(error), maxsplit=1)[0].strip()
        yield Violation(field, f"is not an e-mail address: {problem}")


def _bodies(text: str | None, html: str | None) -> Iterator[Violation]:
    if not text and not html:
        yield Violation("text", "give text, html or both")
    if sum(size_of(part) for part in (text, html) if part) > EMAIL_BODY_LIMIT:
        yield Violation("text", f"text and html together must stay within {EMAIL_BODY_LIMIT} bytes")


def _headers(headers: Mapping[str, str]) -> Iterator[Violation]:
    if not headers:
        return
    if len(headers) > HEADERS_COUNT:
        yield Violation("headers", f"must have at most {HEADERS_COUNT} entries")
    if any(not _HEADER_NAME.fullmatch(name) for name in headers):
        yield Violation("headers", "a name must be printable ASCII without spaces or colons")
    if any(is_reserved(name) for name in headers):
        yield Violation("headers", "a name is one that the message's own fields write")
    if not all(_fits(name, value) for name, value in headers.items()):
        yield Violation("headers", f"name and value must be one line of {LINE_LIMIT} characters")
    if any(count > 1 for count in Counter(name.lower() for name in headers).values()):
        yield Violation("headers", "a name is given twice, in other letters")


def _fits(name: str, value: str) -> bool:
    return is_one_line(value) and len(f"{name}: {value}") <= LINE_LIMIT


def _unsubscription(message: EmailMessage) -> Iterator[Violation]:
    """RFC 2369, and RFC 8058 for one click."""
    if message.unsubscribe_url is None and not message.headers:
        return
    given = {name.lower(): value for name, value in message.headers.items()}
    by_hand = given.get(LIST_UNSUBSCRIBE.lower())
    post = given.get(LIST_UNSUBSCRIBE_POST.lower())
    url = message.unsubscribe_url
    if url is not None and not _is_linkable(url):
        yield Violation(
            "unsubscribe_url",
            f"must be an https address of at most {UNSUBSCRIBE_LIMIT} ASCII characters",
        )
    if url is not None and (by_hand, post) != (None, None):
        yield Violation(
            "headers", f"give unsubscribe_url or {LIST_UNSUBSCRIBE}: the former writes the latter"
        )
    elif by_hand is not None and not _IN_BRACKETS.search(by_hand):
        yield Violation("headers", f"{LIST_UNSUBSCRIBE} must name addresses in < and >")
    elif post is not None:
        yield from _one_click(post, by_hand or "")


def _one_click(post: str, by_hand: str) -> Iterator[Violation]:
    if post.strip() != ONE_CLICK:
        yield Violation("headers", f"{LIST_UNSUBSCRIBE_POST} must be {ONE_CLICK}")
    if not any(is_https(address) for address in _IN_BRACKETS.findall(by_hand)):
        yield Violation(
            "headers", f"{LIST_UNSUBSCRIBE_POST} needs an https address in {LIST_UNSUBSCRIBE}"
        )


def _is_linkable(url: str) -> bool:
    """Whether it can stand in a header between < and >."""
    plain = url.isascii() and not set(url) & set('<>, "')
    return plain and len(url) <= UNSUBSCRIBE_LIMIT and is_https(url)


def _attachments(attachments: tuple[Attachment, ...]) -> Iterator[Violation]:
    if len(attachments) > ATTACHMENTS_COUNT:
        yield Violation("attachments", f"must be at most {ATTACHMENTS_COUNT}")
    if sum(len(item.content) for item in attachments) > ATTACHMENTS_LIMIT:
        yield Violation("attachments", f"must stay within {ATTACHMENTS_LIMIT} bytes together")
    for n, item in enumerate(attachments):
        yield from _filename(f"attachments[{n}].filename", item.filename)
        if len(item.content_type) > 255 or not _CONTENT_TYPE.fullmatch(item.content_type):
            yield Violation(
                f"attachments[{n}].content_type", "must be a media type, such as application/pdf"
            )


def _filename(field: str, name: str) -> Iterator[Violation]:
    yield from word(field, name, 255)
    if "/" in name or "\\" in name or name in {".", ".."}:
        yield Violation(field, "must be a name without a path")
    if not CONTROL.search(name) and not is_one_line(name):
        yield Violation(field, "must be one line")


def _images(html: str, attachments: tuple[Attachment, ...]) -> Iterator[Violation]:
    """What the html shows is there, and what is there to be shown is shown."""
    if not attachments and "cid:" not in html.lower():
        return
    shown = {unquote(found) for found in _SHOWN.findall(html)}
    known: set[str] = set()
    for n, item in enumerate(attachments):
        if item.content_id is None:
            continue
        field = f"attachments[{n}].content_id"
        if not _CONTENT_ID.fullmatch(item.content_id):
            yield Violation(
                field,
                f"must be letters, digits and . _ + @ -, at most {CONTENT_ID_LIMIT} of them",
            )
        elif item.content_id in known:
            yield Violation(field, "is that of another attachment")
        elif item.content_id not in shown:
            yield Violation(field, "is not shown: the html must name it after cid:")
        known.add(item.content_id)
    if shown - known:
        yield Violation("html", "shows by cid: what no attachment's content_id names")
