"""SMTP against a mail server of the distribution: what we send is in a mailbox, as it was meant.

OpenSMTPD is started on a free port of loopback with a configuration of the test's own, delivers
into a maildir, and the standard library reads the mail back. It starts as root only, and keeps its
queue where the system's own would, so nothing else of the kind may run.
"""

import email
import email.policy
import mailbox
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage as Mime
from pathlib import Path
from typing import Any

import pytest

from consumers.sdk.outcomes import Accepted, Refused
from consumers.sdk.provider import Provider
from schemas.messages import Attachment
from schemas.vocabulary import Channel, Reason
from tests.consumers.contract.samples import closed_port, only_provider, settings_with, until
from tests.consumers.contract.samples import email as mail_to
from tests.consumers.contract.suite import call

pytestmark = pytest.mark.mta

_USER = "mail"  # whom Debian has for this, and as whom the server writes the mailbox
_CONFIGURATION = """
smtp max-message-size 4M
table people {{ "ann@example.com" = "{user}" }}
listen on 127.0.0.1 port {port} hostname mail.example.com
action "keep" maildir "{maildir}" virtual <people> user {user}
match from any for domain "example.com" action "keep"
"""


@dataclass(frozen=True, slots=True)
class Mta:
    """A running mail server and where it delivers to."""

    port: int
    maildir: Path

    def delivered(self) -> list[Mime]:
        """The mails in the mailbox, read by the standard library."""
        if not (self.maildir / "new").is_dir():
            return []
        box = mailbox.Maildir(self.maildir, factory=None, create=False)
        return [_parsed(box.get_bytes(key)) for key in box.iterkeys()]


def _parsed(content: bytes) -> Mime:
    found = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(found, Mime)
    return found


@pytest.fixture
def mta() -> Iterator[Mta]:
    program = shutil.which("smtpd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program, "OpenSMTPD is not installed (Debian: apt-get install opensmtpd)"
    assert os.geteuid() == 0, "OpenSMTPD starts as root only"
    # Not pytest's folder: the server writes as another user, who may not enter that.
    with tempfile.TemporaryDirectory(prefix="comms-mta-") as name:
        Path(name).chmod(0o755)
        owned = Path(name, "box")
        owned.mkdir()
        os.chown(owned, pwd.getpwnam(_USER).pw_uid, -1)
        running = Mta(closed_port(), owned / "maildir")
        with _running(program, running, Path(name)):
            yield running


def _running(program: str, mta: Mta, folder: Path) -> "_Server":
    configuration = folder / "smtpd.conf"
    configuration.write_text(_CONFIGURATION.format(port=mta.port, maildir=mta.maildir, user=_USER))
    return _Server([program, "-d", "-f", str(configuration)], mta.port, folder / "smtpd.log")


class _Server:
    """A process that listens, from when it does until it has ended."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self._command, self._port, self._log = command, port, log

    def __enter__(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not _listens(self._port):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
            said = self._log.read_text()
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True


@pytest.fixture
async def provider(mta: Mta) -> AsyncIterator[Provider[Any]]:
    table = {"name": "smtp", "host": "127.0.0.1", "port": mta.port, "security": "none"}
    more = {"from": "Acme <news@acme.example>", "local_hostname": "client.example"}
    settings = settings_with(Channel.EMAIL, {**table, **more})
    one = only_provider(settings, Channel.EMAIL)
    await one.open()
    yield one
    await one.close()


async def test_a_mail_is_in_the_mailbox_as_it_was_meant(provider: Provider[Any], mta: Mta) -> None:
    invoice = Attachment(
        filename="Rechnung März.pdf", content_type="application/pdf", content=bytes(range(256)) * 99
    )
    message = mail_to(
        "Änn Müller <ann@example.com>",
        subject="Grüße aus Köln",
        text="Dear Änn,\n.a dot\n..two\nFrom here on\n",
        html="<p>Dear Änn</p>",
        attachments=(invoice,),
    )
    outcome = await call(provider, message)
    assert isinstance(outcome, Accepted), outcome
    assert outcome.response.provider_message_id
    await until(lambda: len(mta.delivered()) == 1)
    (mail,) = mta.delivered()
    assert (mail["subject"], mail["to"]) == (message.subject, message.to)
    assert mail["message-id"] == f"<{message.id}@acme.example>"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert text.get_content().splitlines() == (message.text or "").splitlines()
    assert html is not None
    assert html.get_content().strip() == message.html
    (file,) = mail.iter_attachments()
    assert file.get_filename() == invoice.filename
    assert file.get_payload(decode=True) == invoice.content


async def test_a_mailbox_that_is_not_there_is_an_invalid_recipient(
    provider: Provider[Any], mta: Mta
) -> None:
    outcome = await call(provider, mail_to("nobody-of-that-name@example.com"))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.INVALID_RECIPIENT
    assert mta.delivered() == []


async def test_some_of_cc_refused_is_delivered_to_the_others(
    provider: Provider[Any], mta: Mta
) -> None:
    message = mail_to("ann@example.com", cc=("bob@elsewhere.example",))
    outcome = await call(provider, message)
    assert isinstance(outcome, Accepted)
    assert "1 of cc and bcc refused" in (outcome.response.detail or "")
    await until(lambda: len(mta.delivered()) == 1)


async def test_a_mail_that_is_too_large_is_refused(provider: Provider[Any], mta: Mta) -> None:
    big = Attachment(
        filename="big.bin", content_type="application/octet-stream", content=bytes(5_000_000)
    )
    outcome = await call(provider, mail_to("ann@example.com", attachments=(big,)))
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.REJECTED
    assert mta.delivered() == []
