"""The content rules of e-mails: headers, unsubscribing, inline images."""

from dataclasses import replace

import pytest

from schemas.messages import Attachment, EmailMessage
from schemas.rules import violations
from tests.schemas.test_rules import EMAIL

LOGO = Attachment(filename="logo.png", content_type="image/png", content=b"x", content_id="logo")
SHOWN = replace(EMAIL, html='<img src="cid:logo">', attachments=(LOGO,))
URL = "https://example.com/u/1?who=a%40b"


def fields(message: EmailMessage) -> list[str]:
    """Return the fields of the rules that a message breaks."""
    return [violation.field for violation in violations(message)]


@pytest.mark.parametrize(
    "message",
    [
        replace(EMAIL, unsubscribe_url=URL),
        replace(EMAIL, unsubscribe_url=URL + "a" * (900 - len(URL))),
        replace(EMAIL, headers={"List-Unsubscribe": f"<mailto:u@example.com>, <{URL}>"}),
        replace(
            EMAIL,
            headers={
                "list-unsubscribe": f"<mailto:u@example.com>, <{URL}>",
                "LIST-UNSUBSCRIBE-POST": "List-Unsubscribe=One-Click",
            },
        ),
        SHOWN,
        replace(SHOWN, html="<img alt='' src='cid:logo'><img src=cid:logo>"),
        replace(SHOWN, html="<p style='background: url(cid:logo)'>"),
        replace(
            SHOWN,
            html='<img src="CID:logo%40acme">',
            attachments=(replace(LOGO, content_id="logo@acme"),),
        ),
        replace(EMAIL, html="<p>a cid:logo is an address</p>"),
        replace(EMAIL, headers={"X-A": "x" * (998 - len("X-A: "))}),
        replace(EMAIL, headers={"X-A": "家族\u3000👨\u200d👩\u200d👧"}),
    ],
)
def test_valid_email_is_accepted(message: EmailMessage) -> None:
    assert violations(message) == ()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(EMAIL, unsubscribe_url="http://example.com/u"), "unsubscribe_url"),
        (replace(EMAIL, unsubscribe_url="mailto:u@example.com"), "unsubscribe_url"),
        (replace(EMAIL, unsubscribe_url="https://example.com/ü"), "unsubscribe_url"),
        (replace(EMAIL, unsubscribe_url=URL + ">, <mailto:x@y"), "unsubscribe_url"),
        (replace(EMAIL, unsubscribe_url=URL + "a" * 900), "unsubscribe_url"),
        (replace(EMAIL, unsubscribe_url=URL, headers={"list-unsubscribe": "<x>"}), "headers"),
        (replace(EMAIL, unsubscribe_url=URL, headers={"List-Unsubscribe-Post": "x"}), "headers"),
        (replace(EMAIL, headers={"List-Unsubscribe": URL}), "headers"),
        (
            replace(EMAIL, headers={"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}),
            "headers",
        ),
        (
            replace(
                EMAIL,
                headers={
                    "List-Unsubscribe": "<mailto:u@example.com>, <http://example.com/u>",
                    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                },
            ),
            "headers",
        ),
        (
            replace(
                EMAIL,
                headers={"List-Unsubscribe": f"<{URL}>", "List-Unsubscribe-Post": "yes"},
            ),
            "headers",
        ),
        (replace(EMAIL, headers={"X-A": "a", "x-a": "b"}), "headers"),
        (replace(EMAIL, headers={"X-A": "x" * 998}), "headers"),
        (replace(EMAIL, headers={"X-A": "one\u2028two"}), "headers"),
        (replace(EMAIL, headers={"DKIM-Signature": "v=1"}), "headers"),
        (replace(EMAIL, headers={"Resent-To": "a@example.com"}), "headers"),
        (replace(EMAIL, headers={"Content-Language": "en"}), "headers"),
        (replace(EMAIL, subject="one\u2028two"), "subject"),
        (replace(SHOWN, html=None), "attachments[0].content_id"),
        (replace(SHOWN, html="<p>logo</p>"), "attachments[0].content_id"),
        (
            replace(
                SHOWN,
                html='<img src="cid:a%20b">',
                attachments=(replace(LOGO, content_id="a b"),),
            ),
            "attachments[0].content_id",
        ),
        (replace(SHOWN, attachments=(LOGO, LOGO)), "attachments[1].content_id"),
        (replace(SHOWN, attachments=()), "html"),
        (replace(SHOWN, html='<img src="cid:logo"><img src="cid:other">'), "html"),
    ],
)
def test_violation_names_the_field(message: EmailMessage, field: str) -> None:
    assert set(fields(message)) == {field}


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\nb"])
def test_file_name_must_be_one_line(name: str) -> None:
    attachment = replace(LOGO, filename=name, content_id=None)
    assert fields(replace(EMAIL, attachments=(attachment,))) == ["attachments[0].filename"]
