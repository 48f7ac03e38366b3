"""The bytes of a mail, read back by the standard library; what the rules let pass is writable."""

import email
import email.policy
import re
from dataclasses import replace
from email.message import EmailMessage as Mime
from email.message import MIMEPart
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from consumers.email.mime import Mail, compose
from consumers.email.parts import parts_of
from schemas.messages import Attachment, EmailMessage
from schemas.rules import violations
from tests.consumers.contract.samples import email as mail_to

FROM = "Acme <news@acme.example>"
URL = "https://example.com/u/" + "a1b2" * 100 + "?list=news&who=a%40b"
LOGO = Attachment(filename="lögo.png", content_type="image/png", content=b"P", content_id="logo")
FILE = Attachment(filename="été.pdf", content_type="application/pdf", content=b"%PDF")
HTML = '<p><img src="cid:logo"></p>'
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def read(mail: Mail) -> Mime:
    found = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert isinstance(found, Mime)
    assert found.defects == []
    return found


def written(message: EmailMessage) -> Mime:
    return read(compose(message, default_from=FROM))


def shape(part: MIMEPart) -> Any:
    """A mail's structure: the kinds of its parts, those with parts as lists."""
    kind = part.get_content_type()
    return [kind, *map(shape, part.iter_parts())] if part.is_multipart() else kind


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "text/plain"),
        ({"text": None, "html": "<p>"}, "text/html"),
        ({"text": "", "html": "<p>"}, "text/html"),
        ({"html": "<p>"}, ["multipart/alternative", "text/plain", "text/html"]),
        (
            {"text": None, "html": HTML, "attachments": (LOGO,)},
            ["multipart/related", "text/html", "image/png"],
        ),
        (
            {"html": HTML, "attachments": (FILE, LOGO)},
            [
                "multipart/mixed",
                [
                    "multipart/alternative",
                    "text/plain",
                    ["multipart/related", "text/html", "image/png"],
                ],
                "application/pdf",
            ],
        ),
        ({"attachments": (FILE,)}, ["multipart/mixed", "text/plain", "application/pdf"]),
    ],
)
def test_parts_stand_where_readers_look_for_them(more: dict[str, Any], expected: Any) -> None:
    assert shape(written(mail_to("ann@example.com", **more))) == expected


def test_an_image_is_inside_and_a_file_beside() -> None:
    made = mail_to("ann@example.com", html=HTML, attachments=(LOGO, FILE))
    found = {part.get_filename(): part for part in written(made).walk() if part.get_filename()}
    image, file = found["lögo.png"], found["été.pdf"]
    assert (image["Content-ID"], image.get_content_disposition()) == ("<logo>", "inline")
    assert (file["Content-ID"], file.get_content_disposition()) == (None, "attachment")
    assert image.get_content() == LOGO.content


def test_one_click_unsubscription_is_two_headers_with_the_address_as_it_is() -> None:
    mail = compose(mail_to("ann@example.com", unsubscribe_url=URL), default_from=FROM)
    assert f"List-Unsubscribe: <{URL}>\r\n".encode() in mail.content
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in mail.content
    assert read(mail)["List-Unsubscribe"] == f"<{URL}>"


def test_a_senders_long_header_is_folded_at_spaces_alone() -> None:
    value = f"<mailto:u@example.com>,  <{URL}> " + "word " * 30 + "end"
    mail = compose(mail_to("ann@example.com", headers={"X-Long": value}), default_from=FROM)
    lines = mail.content.split(b"\r\n\r\n")[0].split(b"\r\n")
    assert f"<{URL}>" in "\n".join(line.decode() for line in lines)
    assert all(line.strip() and len(line) <= 998 for line in lines)
    assert read(mail)["X-Long"] == value


def test_every_attempt_is_the_same_mail() -> None:
    made = mail_to("ann@example.com", html=HTML, attachments=(LOGO, FILE))
    first, again = written(made), written(made)
    assert first["Message-ID"] == again["Message-ID"] == f"<{made.id}@acme.example>"
    assert first["Date"] == again["Date"]


def lines(text: str) -> list[str]:
    """The lines as mail has them; whether the last of them ends makes no difference."""
    return re.split(r"\r\n|\r|\n", text.rstrip("\r\n"))


def mails() -> st.SearchStrategy[EmailMessage]:
    files = st.builds(
        Attachment,
        filename=words,
        content_type=st.sampled_from(["image/png", "text/plain; charset=utf-8", "message/rfc822"]),
        content=st.binary(max_size=20),
    )
    names = st.from_regex(r"X-[A-Za-z]{1,10}", fullmatch=True)
    return st.builds(
        lambda **values: replace(mail_to("ann@example.com"), **values),
        subject=words,
        text=st.none() | words,
        html=st.none() | words,
        headers=st.dictionaries(names, words, max_size=2),
        attachments=st.lists(files, max_size=2).map(tuple),
        reply_to=st.none() | words.map(lambda name: f'"{name}" <desk@acme.example>'),
    )


@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(mails())
def test_what_the_rules_let_pass_is_writable_and_says_the_same(message: EmailMessage) -> None:
    assume(not violations(message))
    mail = compose(message, default_from=FROM)
    parts_of(message, default_from=FROM)
    assert mail.content.isascii()
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    found = read(mail)
    assert str(found["Subject"]).split() == message.subject.split()
    for name, value in message.headers.items():
        assert str(found[name]).split() == value.split()
    text = found.get_body(("plain",))
    if message.text and text is not None:
        assert lines(text.get_content()) == lines(message.text)
