"""What the tests of the e-mail APIs share: a mail with everything in it, and receipts to read."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from consumers.email.parts import mark_of
from schemas.messages import Attachment, EmailMessage
from tests.consumers.contract.samples import CREATED, email

TO = "person@example.com"
FROM = "Acme <news@acme.example>"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FILE = Attachment(filename="été.pdf", content_type="application/pdf", content=b"%PDF \x00\xff")
LOGO = Attachment(
    filename="logo.png", content_type="image/png", content=b"\x89PNG", content_id="logo"
)
LOGO_IN_BASE64 = base64.b64encode(LOGO.content).decode()
UNSUBSCRIBE = "https://acme.example/u/1"
ONE_CLICK = {
    "List-Unsubscribe": f"<{UNSUBSCRIBE}>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}
FILE_IN_BASE64 = base64.b64encode(FILE.content).decode()


def recipient(number: int) -> str:
    """The n-th of the contract's recipients."""
    return f"person{number}@example.com"


def full_mail(**more: Any) -> EmailMessage:
    """A mail with every field, and the same addresses more than once."""
    values: dict[str, Any] = {
        "subject": "Grüße",
        "text": "Hello",
        "html": "<p>Hello</p>",
        "cc": ('"Bo, Jr" <bo@example.com>', "Other <PERSON@example.com>"),
        "bcc": ("eve@bücher.example", "bo@example.com"),
        "reply_to": "Desk <desk@acme.example>",
        "sender": "Team <team@acme.example>",
        "headers": {"X-Campaign": "autumn"},
        "attachments": (FILE,),
        **more,
    }
    return email(f"Pérson <{TO}>", **values)


def shown_mail() -> EmailMessage:
    """A mail with an image in its html, and an address to unsubscribe at."""
    html = '<img src="cid:logo">'
    return email(TO, html=html, attachments=(LOGO,), unsubscribe_url=UNSUBSCRIBE)


def marked(message_id: UUID, *, copies: bool = False) -> str:
    """The mark of a mail to `TO`."""
    cc = ("copy@example.com",) if copies else ()
    made = EmailMessage(
        id=message_id, tenant="acme", created_at=CREATED, to=TO, subject="Hello", cc=cc
    )
    return mark_of(made)


def bytes_of(value: object) -> bytes:
    """JSON as a provider sends it."""
    return json.dumps(value, ensure_ascii=False).encode()


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header by its name, in whatever letters."""
    return {key.lower(): value for key, value in headers.items()}.get(name.lower())
