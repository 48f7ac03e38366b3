"""The rules for e-mails: addresses, bodies, headers, unsubscribing, attachments and images.

`schemas.rules.violations` calls `check_email`. A message that passes can be written as MIME.
Adapters call `is_reserved` for each header again, because a message that an older version accepted
may still be waiting.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from email_validator import EmailNotValidError, validate_email

from schemas.errors import Violation
from schemas.messages import Attachment, EmailMessage
from schemas.rules.checks import CONTROL, check_name, is_https, is_one_line, utf8_size

EMAIL_BODY_LIMIT = 2 * 1024 * 1024  # bytes of text and html together
ATTACHMENTS_LIMIT = 5 * 1024 * 1024  # bytes of all attachments together, decoded
ATTACHMENTS_COUNT = 25
COPIES_LIMIT = 50  # addresses in cc, and the same in bcc
HEADERS_COUNT = 50
LINE_LIMIT = 998  # characters of a header line, RFC 5322
# Characters of unsubscribe_url: its header must fit in one line of 998.
UNSUBSCRIBE_LIMIT = 900
CONTENT_ID_LIMIT = 127  # characters; the limit of Resend

LIST_UNSUBSCRIBE, LIST_UNSUBSCRIBE_POST = "List-Unsubscribe", "List-Unsubscribe-Post"
ONE_CLICK = "List-Unsubscribe=One-Click"

_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105 - a grammar term, not a secret
_CONTENT_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(\s*;\s*{_TOKEN}=({_TOKEN}|"[^"\\]*"))*')
_CONTENT_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+@-]{{0,{CONTENT_ID_LIMIT - 1}}}")
# `src="cid:logo"`, and `url(cid:logo)` in a style, but not "cid:logo" in the text.
# The number of spaces is limited, because bodies are large and matching must stay fast.
_CID_REFERENCE = re.compile(
    r"""(?:=\s{0,9}|\burl\(\s{0,9})["']?\s{0,9}cid:([^"'\s<>)]+)""", re.IGNORECASE
)
_IN_BRACKETS = re.compile(r"<\s*([^<>\s]+)\s*>")

# Headers that this system or mail servers write. A second one would redirect or disguise the
# message.
_RESERVED_HEADERS = frozenset(
    {
        *("from", "to", "cc", "bcc", "reply-to", "sender", "return-path", "subject", "date"),
        *("message-id", "received", "mime-version", "dkim-signature"),
    }
)
_RESERVED_PREFIXES = ("content-", "resent-")


def is_reserved(header: str) -> bool:
    """Whether the sender of a message must not set this header."""
    name = header.lower()
    return name in _RESERVED_HEADERS or name.startswith(_RESERVED_PREFIXES)


def check_email(message: EmailMessage) -> Iterator[Violation]:
    """Check an e-mail."""
    yield from _check_address("to", message.to)
    for field, copies in (("cc", message.cc), ("bcc", message.bcc)):
        if len(copies) > COPIES_LIMIT:
            yield Violation(field, f"must have at most {COPIES_LIMIT} addresses")
        for n, address in enumerate(copies):
            yield from _check_address(f"{field}[{n}]", address)
    for field, optional in (("reply_to", message.reply_to), ("from", message.sender)):
        if optional is not None:
            yield from _check_address(field, optional)
    if not message.subject.strip() or len(message.subject) > LINE_LIMIT:
        yield Violation("subject", f"must have 1 to {LINE_LIMIT} characters")
    if not is_one_line(message.subject):
        yield Violation("subject", "must be one line, without control characters")
    yield from _check_bodies(message.text, message.html)
    yield from _check_headers(message.headers)
    yield from _check_unsubscribe_headers(message)
    yield from _check_attachments(message.attachments)
    yield from _check_images(message.html or "", message.attachments)


def _check_address(field: str, value: str) -> Iterator[Violation]:
    if not is_one_line(value) or len(value) > LINE_LIMIT:
        yield Violation(field, "must be one line")
        return
    try:
        # `.test` is reserved for tests, and senders use it for tests.
        validate_email(
            value, check_deliverability=False, allow_display_name=True, test_environment=True
        )
    except EmailNotValidError as error:
        # After a colon or a bracket, the sentence quotes the address.
        problem = re.split(r"[:(]", str(error), maxsplit=1)[0].strip()
        yield Violation(field, f"is not an e-mail address: {problem}")


def _check_bodies(text: str | None, html: str | None) -> Iterator[Violation]:
    if not text and not html:
        yield Violation("text", "give text, html or both")
    if sum(utf8_size(part) for part in (text, html) if part) > EMAIL_BODY_LIMIT:
        yield Violation(
            "text", f"text and html together must have at most {EMAIL_BODY_LIMIT} bytes"
        )


def _check_headers(headers: Mapping[str, str]) -> Iterator[Violation]:
    if not headers:
        return
    if len(headers) > HEADERS_COUNT:
        yield Violation("headers", f"must have at most {HEADERS_COUNT} entries")
    if any(not _HEADER_NAME.fullmatch(name) for name in headers):
        yield Violation("headers", "a name must be printable ASCII without spaces or colons")
    if any(is_reserved(name) for name in headers):
        yield Violation(
            "headers", "a name is reserved: the message's own fields or mail servers write it"
        )
    if not all(_fits_on_a_line(name, value) for name, value in headers.items()):
        yield Violation(
            "headers", f"name and value must be one line of at most {LINE_LIMIT} characters"
        )
    if any(count > 1 for count in Counter(name.lower() for name in headers).values()):
        yield Violation("headers", "a name is given twice, in different case")


def _fits_on_a_line(name: str, value: str) -> bool:
    return is_one_line(value) and len(f"{name}: {value}") <= LINE_LIMIT


def _check_unsubscribe_headers(message: EmailMessage) -> Iterator[Violation]:
    """Check `unsubscribe_url` and the headers of RFC 2369 and RFC 8058 (one click)."""
    if message.unsubscribe_url is None and not message.headers:
        return
    headers = {name.lower(): value for name, value in message.headers.items()}
    list_unsubscribe = headers.get(LIST_UNSUBSCRIBE.lower())
    post = headers.get(LIST_UNSUBSCRIBE_POST.lower())
    url = message.unsubscribe_url
    if url is not None and not _is_linkable(url):
        yield Violation(
            "unsubscribe_url",
            f"must be an https address of at most {UNSUBSCRIBE_LIMIT} ASCII characters",
        )
    if url is not None and (list_unsubscribe, post) != (None, None):
        yield Violation(
            "headers",
            f"give unsubscribe_url or {LIST_UNSUBSCRIBE}, not both: the first writes the second",
        )
    elif list_unsubscribe is not None and not _IN_BRACKETS.search(list_unsubscribe):
        yield Violation("headers", f"{LIST_UNSUBSCRIBE} must name addresses in < and >")
    elif post is not None:
        yield from _check_one_click(post, list_unsubscribe or "")


def _check_one_click(post: str, list_unsubscribe: str) -> Iterator[Violation]:
    if post.strip() != ONE_CLICK:
        yield Violation("headers", f"{LIST_UNSUBSCRIBE_POST} must be {ONE_CLICK}")
    if not any(is_https(address) for address in _IN_BRACKETS.findall(list_unsubscribe)):
        yield Violation(
            "headers", f"{LIST_UNSUBSCRIBE_POST} needs an https address in {LIST_UNSUBSCRIBE}"
        )


def _is_linkable(url: str) -> bool:
    """Whether a URL can be written in a header between < and >."""
    plain = url.isascii() and not set(url) & set('<>, "')
    return plain and len(url) <= UNSUBSCRIBE_LIMIT and is_https(url)


def _check_attachments(attachments: tuple[Attachment, ...]) -> Iterator[Violation]:
    if len(attachments) > ATTACHMENTS_COUNT:
        yield Violation("attachments", f"must be at most {ATTACHMENTS_COUNT} files")
    if sum(len(item.content) for item in attachments) > ATTACHMENTS_LIMIT:
        yield Violation("attachments", f"must have at most {ATTACHMENTS_LIMIT} bytes together")
    for n, item in enumerate(attachments):
        yield from _check_filename(f"attachments[{n}].filename", item.filename)
        if len(item.content_type) > 255 or not _CONTENT_TYPE.fullmatch(item.content_type):
            yield Violation(
                f"attachments[{n}].content_type", "must be a media type, such as application/pdf"
            )


def _check_filename(field: str, name: str) -> Iterator[Violation]:
    yield from check_name(field, name, 255)
    if "/" in name or "\\" in name or name in {".", ".."}:
        yield Violation(field, "must be a name without a path")
    if not CONTROL.search(name) and not is_one_line(name):
        yield Violation(field, "must be one line")


def _check_images(html: str, attachments: tuple[Attachment, ...]) -> Iterator[Violation]:
    """Check that the HTML and the attachments name the same content ids."""
    if not attachments and "cid:" not in html.lower():
        return
    referenced = {unquote(content_id) for content_id in _CID_REFERENCE.findall(html)}
    attached: set[str] = set()
    for n, item in enumerate(attachments):
        if item.content_id is None:
            continue
        field = f"attachments[{n}].content_id"
        if not _CONTENT_ID.fullmatch(item.content_id):
            yield Violation(
                field,
                f"must be letters, digits and . _ + @ -, at most {CONTENT_ID_LIMIT} of them",
            )
        elif item.content_id in attached:
            yield Violation(field, "is used by another attachment")
        elif item.content_id not in referenced:
            yield Violation(field, "is not shown: the html must reference it as cid:")
        attached.add(item.content_id)
    if referenced - attached:
        yield Violation("html", "references a cid: that no attachment has as its content_id")
