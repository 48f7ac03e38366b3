"""Nothing private is shown: a full run of all services, with private things planted everywhere.

Every service is a process, as deployed, and logs at DEBUG. Messages go out on all channels by the
real adapters to a server that takes, refuses, breaks, hangs up, and quotes what it was asked in
whatever it says. What the processes wrote, and what anybody may read of them, is searched.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode, urlsplit, urlunsplit

import psycopg
import pytest
from twilio.request_validator import RequestValidator

from comms.platform.kafka import Broker
from comms.platform.settings import load
from comms.stack import folder
from comms.stack.process import Program, end, free_port, launch
from schemas.vocabulary import Channel
from tests import leaks
from tests.waiting import wait_for

SERVICES = ("app", "relay", "audit", "sms", "email", "push", "voice")
CHANNEL = """
[{channel}]
call_timeout_seconds = 1
[{channel}.retry]
attempts = 3
base_seconds = 0.1
[{channel}.routing]
breaker_rest_seconds = 0.2
breaker_rest_cap_seconds = 0.2
account_rest_seconds = 0.2
"""
PROVIDERS = {
    "sms": ("twilio", "vonage", "telnyx", "aws"),
    "voice": ("twilio", "vonage"),
    "email": ("resend", "postmark", "sendgrid", "mailgun", "ses"),
    "push": ("fcm", "expo", "webpush"),
}
OPTIONS = {
    "aws": 'region = "eu-west-1"',
    "ses": 'region = "eu-west-1"',
    "mailgun": 'domain = "mg.acme.example"',
    "webpush": 'subject = "mailto:push@acme.example"',
    "expo": 'access_token_env = "EXPO_ACCESS_TOKEN"',
}
ID = "id-of-what-was-taken"
TAKEN = {"sid": ID, "message_uuid": ID, "uuid": ID, "id": ID, "MessageID": ID, "MessageId": ID}
TICKETS = {"status": "ok", "id": ID}
PUBLIC_URL, FORM = "https://comms.example.com", "application/x-www-form-urlencoded"


class Gossip(ThreadingHTTPServer):
    """A provider that takes some messages, and says of others whom it was to tell what."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.turn = count()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone."""


class _Asked(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._say(200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/token":
            self._say(200, {"access_token": "planted", "expires_in": 3600})
            return
        said = self._quoted(unquote_plus(body.decode("utf-8", "replace")) + self.path)
        assert isinstance(self.server, Gossip)
        match next(self.server.turn) % 6:
            case 0:
                self._say(400, said)
            case 1:
                self._say(503, said)
            case 2:
                self.connection.close()
            case 3:
                self._say(200, f"<html>{said}</html>")
            case 4:
                self._say(401, said)
            case _:
                self._say(200, {**TAKEN, "data": TICKETS})

    def _quoted(self, request: str) -> dict[str, Any]:
        everybody = (*leaks.NUMBERS, *leaks.ADDRESSES, *leaks.TOKENS, leaks.ENDPOINT)
        found = [one for one in everybody if one.lstrip("+") in request]
        told = f"Cannot send \"{leaks.BODY}\" or '{leaks.SUBJECT}' to {', '.join(found)}"
        names = ("message", "Message", "detail", "title", "error", "ErrorMessage", "description")
        return {**dict.fromkeys(names, told), "errors": [{"detail": told, "message": told}]}

    def _say(self, status: int, value: object) -> None:
        body = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


class System:
    """Every service as a process; what was answered is kept in `answers`."""

    def __init__(self, environment: dict[str, str], data_dir: Path, key: str) -> None:
        self._environment, self._logs = environment, data_dir / "logs"
        self.ports = {name: free_port() for name in SERVICES}
        self.answers: dict[str, str] = {}
        self.key = key
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name, port in self.ports.items():
            program = Program(
                name=name,
                argv=(sys.executable, "-m", "comms", "run", name),
                log=self._logs / f"{name}.log",
                env={**self._environment, "COMMS_HTTP_PORT": str(port)},
            )
            self._processes.append(launch(program))
        wait_for(lambda: all(self._is_ready(name) for name in SERVICES), seconds=120)

    def stop(self) -> None:
        for process in self._processes:
            end(process, with_signal=signal.SIGTERM, grace=30)

    def logs(self) -> dict[str, str]:
        return {path.name: path.read_text("utf-8", "replace") for path in self._logs.iterdir()}

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        service: str = "app",
        shown: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Ask a service; unless `shown` to the tenant alone, the answer is searched."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[service], timeout=20)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        own |= headers or {}
        connection.request(method, path, raw if body is not None else None, own)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        if shown or answer.status >= 400:
            self.answers[f"{len(self.answers)} {service} {method} {path[:24]}"] = text
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def run(self, *arguments: str, seconds: float = 60, **changes: str) -> None:
        """A command, whose output is searched; one that goes on is ended."""
        program = Program(
            name=f"{'-'.join(arguments)}-{len(self._processes)}",
            argv=(sys.executable, "-m", "comms", *arguments),
            log=self._logs / f"{'-'.join(arguments)}-{'-'.join(changes)}.log",
            env={**self._environment, **changes},
        )
        process = launch(program)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            end(process, with_signal=signal.SIGTERM, grace=5)
        assert program.log.stat().st_size

    def _is_ready(self, name: str) -> bool:
        try:
            return self.ask("GET", "/readyz", service=name)[0] == 200
        except OSError:
            return False


@contextmanager
def private_database(url: str) -> Iterator[str]:
    """The same database by a user whose password is planted."""
    parts = urlsplit(url)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(f"CREATE ROLE planted LOGIN SUPERUSER PASSWORD '{leaks.PASSWORD}'")
        try:
            netloc = f"planted:{leaks.PASSWORD}@{parts.netloc.rpartition('@')[2]}"
            yield urlunsplit(parts._replace(netloc=netloc))
        finally:
            session.execute("REASSIGN OWNED BY planted TO CURRENT_USER")
            session.execute("DROP ROLE planted")


@pytest.fixture
def system(broker: Broker, database_url: str, tmp_path: Path) -> Iterator[System]:
    gossip = Gossip()
    thread = threading.Thread(target=gossip.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{gossip.server_port}"
    config = tmp_path / "comms.toml"
    config.write_text(_config(url))
    with private_database(database_url) as private:
        environment = {
            **os.environ,
            **leaks.SECRETS,
            "GOOGLE_APPLICATION_CREDENTIALS": leaks.service_account(f"{url}/token"),
            "COMMS_CONFIG": str(config),
            "COMMS_DATA_DIR": str(tmp_path),
            "COMMS_DATABASE_URL": private,
            "COMMS_KAFKA_BOOTSTRAP_SERVERS": broker.properties["bootstrap.servers"],
            "COMMS_LOG_LEVEL": "DEBUG",
            "COMMS_PUBLIC_URL": PUBLIC_URL,
        }
        made = System(environment, tmp_path, folder.ensure_api_key(tmp_path, private))
        environment["COMMS_URL"] = f"http://127.0.0.1:{made.ports['app']}"
        environment["COMMS_API_KEY"] = made.key
        try:
            made.start()
            yield made
        finally:
            made.stop()
            gossip.shutdown()
            gossip.server_close()


def _config(url: str) -> str:
    text = ""
    for channel, names in PROVIDERS.items():
        text += CHANNEL.format(channel=channel)
        sender = "news@acme.example" if channel == "email" else "+15005550006"
        for name in names:
            text += f'[[{channel}.providers]]\nname = "{name}"\nbase_url = "{url}"\n'
            text += f'from = "{sender}"\n' if channel != "push" else ""
            text += OPTIONS.get(name, "") + "\n"
    return text


def messages() -> list[dict[str, Any]]:
    """To everybody on every channel."""
    attachment = {"filename": leaks.FILE, "content_type": "text/plain", "content": leaks.CONTENT}
    push = {"channel": "push", "title": leaks.SUBJECT, "body": leaks.BODY}
    found: list[dict[str, Any]] = []
    for number, address, token in zip(leaks.NUMBERS, leaks.ADDRESSES, leaks.TOKENS, strict=True):
        mail = {"channel": "email", "subject": leaks.SUBJECT, "attachments": [attachment]}
        found += [
            {"channel": "sms", "to": number, "body": leaks.BODY},
            {"channel": "voice", "to": number, "text": leaks.BODY},
            {**mail, "to": f"{leaks.NAME} <{address}>", "text": leaks.BODY},
            {**push, "to": token},
        ]
    return [*found, {**push, "to": leaks.SUBSCRIPTION, "platform": "webpush"}]


def say_what_is_wrong(system: System) -> None:
    """Requests that are refused, with private things in every field that can be wrong."""
    number, address = leaks.NUMBERS[0], leaks.ADDRESSES[0]
    good = {"channel": "sms", "to": number, "body": leaks.BODY, "idempotency_key": "one"}
    assert system.ask("POST", "/v1/messages", good, shown=False)[0] == 202
    refused: list[object] = [
        {**good, "body": leaks.BODY + "!"},
        {**good, "to": f"{number}x"},
        {**good, "to": [number]},
        {**good, "channel": leaks.BODY},
        {**good, "channel": "email", "to": f"{address} {address}", "subject": leaks.SUBJECT},
        {**good, "send_at": leaks.BODY, "priority": leaks.SUBJECT, "metadata": {"a": 7}},
        {**good, "another": leaks.BODY},
        {**good, "body": leaks.BODY * 20_000},
        b'{"to": "' + number.encode() + b'", ' + leaks.BODY.encode(),
        {"channel": "push", "to": {"endpoint": leaks.ENDPOINT, "keys": {}}, "body": leaks.BODY},
    ]
    for body in refused:
        assert system.ask("POST", "/v1/messages", body)[0] in (400, 409, 413, 422), body
    system.ask("POST", "/v1/messages/batch", {"messages": refused[:6]})
    for bad in (quote(number), quote(address)):
        path = f"/v1/messages?recipient={bad}"
        assert system.ask("GET", f"{path}&status={bad}")[0] == 422
        assert system.ask("GET", path, shown=False)[0] == 200
        assert system.ask("GET", f"/v1/messages/{bad}")[0] in (404, 422)
    for name in ("twilio", "vonage", "telnyx", "aws"):
        body = f"From={quote(number)}&Body={quote(leaks.BODY)}&To={quote(number)}".encode()
        assert system.ask("POST", f"/receipts/sms/{name}?m={quote(number)}", body)[0] in (403, 503)


def say_what_is_genuine(system: System, message_id: str) -> None:
    """A receipt and a text of Twilio's, and the same with another signature."""
    number = leaks.NUMBERS[2]
    receipt = {"MessageSid": "SM1", "MessageStatus": "undelivered", "To": number}
    texts = ({"Body": leaks.BODY}, {"Body": "STOP"}, {**receipt, "ErrorMessage": leaks.BODY})
    for text in texts:
        fields = {**text, "From": number}
        path = f"/receipts/sms/twilio?m={message_id}"
        sign = RequestValidator(leaks.SECRETS["TWILIO_AUTH_TOKEN"]).compute_signature
        signed = sign(f"{PUBLIC_URL}{path}", fields)
        form = urlencode(fields).encode()
        for said, status in ((signed, 204), (signed[::-1], 403)):
            headers = {"Content-Type": FORM, "X-Twilio-Signature": said}
            assert system.ask("POST", path, form, headers=headers)[0] == status


def put_into_topics(broker: Broker) -> None:
    """What is no message, and has private things in it."""
    producer = broker.producer()
    for channel in Channel:
        raw = f"{leaks.NUMBERS[1]} {leaks.BODY}".encode()
        producer.publish(f"comms.{channel}", key=f"acme:{leaks.NUMBERS[1]}", value=raw)
    assert producer.flush(10) == 0
    producer.close()


def look_at_everything(system: System) -> None:
    """What operators and tenants look at."""
    for name in SERVICES:
        for path in ("/metrics", "/readyz", "/healthz"):
            system.ask("GET", path, service=name)
    for path in ("/v1/channels", "/v1/stats?group_by=channel,status,provider", "/openapi.json"):
        assert system.ask("GET", path)[0] == 200
    for command in (("doctor",), ("channels",), ("channels", "--json")):
        system.run(*command)
    for wrong in ("postgresql://p:{}%zz@127.0.0.1:1/x", "postgresql://p:{}@127.0.0.1:port/x"):
        url = wrong.format(leaks.PASSWORD)
        port = str(free_port())
        system.run("run", "sms", seconds=4, COMMS_DATABASE_URL=url, COMMS_HTTP_PORT=port)
        system.run("doctor", COMMS_DATABASE_URL=url)


def test_nothing_private_is_shown(system: System, broker: Broker, database_url: str) -> None:
    sent = messages()
    ids = []
    for message in sent:
        status, answer = system.ask("POST", "/v1/messages", message, shown=False)
        assert status == 202, message
        ids.append(str(answer["id"]))
    say_what_is_wrong(system)
    say_what_is_genuine(system, ids[0])
    put_into_topics(broker)
    with psycopg.connect(database_url, autocommit=True) as session:
        wait_for(lambda: ended(session) > len(sent), seconds=90, what="all have ended")
        seen = session.execute("SELECT * FROM audit.message").fetchall()
        system.answers["the analysts' view"] = "\n".join(map(repr, seen))
    look_at_everything(system)
    system.stop()
    settings = load({**leaks.SECRETS, "COMMS_DATABASE_URL": f"postgresql://p:{leaks.PASSWORD}@h/d"})
    texts = {**system.logs(), **system.answers, "settings": repr(settings)}
    assert set(texts) >= {f"{name}.log" for name in SERVICES}
    assert leaks.leaks({"a control": f"to={quote(leaks.NUMBERS[0])}"}, leaks.NUMBERS)
    found = leaks.leaks(texts, leaks.planted(system.key))
    assert not found, "\n".join(found)


def ended(session: psycopg.Connection) -> int:
    """Messages that came to an end."""
    query = "SELECT count(*) FROM audit.state WHERE status NOT IN ('pending', 'sending')"
    row = session.execute(query).fetchone()
    return int(row[0]) if row else 0
