"""A provider that refuses our account, and one that is not set up, with real engines."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import psycopg

from comms.platform.kafka import Broker
from schemas.vocabulary import Reason, Status
from tests.consumers.harness import (
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    simulator,
    sms,
)

CONFIG = """
[sms.retry]
attempts = 1
base_seconds = 0.1
[sms.routing]
account_rest_seconds = 1
[[sms.providers]]
name = "twilio"
weight = 95
from = "+15005550006"
base_url = "http://127.0.0.1:{port}"
"""
KEYS = {"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "a secret token"}


class Account(ThreadingHTTPServer):
    """Stands in for Twilio: no credit until it is paid; one number has opted out."""

    paid = False
    calls = 0


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200, {})

    def do_POST(self) -> None:
        account = self.server
        assert isinstance(account, Account)
        account.calls += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if not account.paid:
            self._answer(400, {"code": 30002, "message": "Account suspended"})
        elif "5550666" in body:
            self._answer(400, {"code": 29999, "message": "A code of tomorrow"})
        elif "5550777" in body:
            self._answer(400, {"code": 21610, "message": "Unsubscribed recipient"})
        else:
            self._answer(201, {"sid": f"SM{account.calls}", "status": "queued"})

    def log_message(self, format: str, *args: object) -> None: ...

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def account() -> Iterator[Account]:
    server = Account(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def readiness(session: psycopg.Connection) -> dict[str, tuple[str, str | None]]:
    rows = session.execute("SELECT providers FROM consumers.worker").fetchall()
    return {p["name"]: (p["readiness"], p["problem"]) for (providers,) in rows for p in providers}


def test_messages_fail_over_while_a_provider_refuses_the_account(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    with account() as server:
        config.write_text(
            CONFIG.format(port=server.server_port)
            + '[[sms.providers]]\nname = "simulated"\nweight = 5\n'
        )
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config), **KEYS)
        messages = [sms(to=f"+1212557{number:04d}") for number in range(20)]
        with simulator(settings), listener(broker) as status_topic, channel(settings):
            publish(broker, *messages)
            sent = [status_topic.wait_for(message.id, Status.SENT) for message in messages]
    assert {event.provider for event in sent} == {"simulated"}
    published = [event for events in status_topic.events.values() for event in events]
    assert any(event.reason is Reason.ACCOUNT_FAULT for event in published)


def test_without_another_provider_messages_wait_until_the_account_is_repaired(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    with account() as server:
        config.write_text(CONFIG.format(port=server.server_port))
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config), **KEYS)
        message, opted_out = sms(to="+12125580001"), sms(to="+12125550777")
        unknown_error = sms(to="+12125550666")
        with (
            listener(broker) as status_topic,
            channel(settings),
            psycopg.connect(database_url, autocommit=True) as session,
        ):
            publish(broker, message)
            fault = ("setup_needed", "account fault: Account suspended (30002)")
            eventually(
                lambda: readiness(session).get("twilio") == fault, "the account error is reported"
            )
            eventually(lambda: server.calls >= 2, "a probe")  # more than the policy's attempts
            server.paid = True
            assert status_topic.wait_for(message.id, Status.SENT).attempt >= 3
            publish(broker, opted_out)
            refused = status_topic.wait_for(opted_out.id, Status.FAILED)
            assert (refused.reason, refused.code) == (Reason.SUPPRESSED, "21610")
            assert suppressed(session) == [("acme", "+12125550777", "opt_out", opted_out.id)]
            assert readiness(session)["twilio"][0] in {"live", "setup_needed"}
            # Other tests of this process may have counted the code before.
            counted_before = unknown_codes(session).get("29999", 0)
            publish(broker, unknown_error)
            assert status_topic.wait_for(unknown_error.id, Status.FAILED).code == "29999"
            expected = counted_before + 1
            eventually(lambda: unknown_codes(session).get("29999") == expected, "the code is shown")


def test_a_provider_without_its_secret_is_not_used_and_reported(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    config.write_text(CONFIG.format(port=9) + '[[sms.providers]]\nname = "simulated"\n')
    settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
    message = sms(to="+12125590001")
    with (
        simulator(settings),
        listener(broker) as status_topic,
        channel(settings),
        psycopg.connect(database_url, autocommit=True) as session,
    ):
        publish(broker, message)
        assert status_topic.wait_for(message.id, Status.SENT).provider == "simulated"
        eventually(lambda: "twilio" in readiness(session), "a report")
        state, problem = readiness(session)["twilio"]
    assert state == "setup_needed"
    assert (problem or "").startswith("TWILIO_ACCOUNT_SID: not set")


def unknown_codes(session: psycopg.Connection) -> dict[str, int]:
    rows = session.execute("SELECT providers FROM consumers.worker").fetchall()
    return next(
        p["unknown_codes"] for (providers,) in rows for p in providers if p["name"] == "twilio"
    )


def suppressed(session: psycopg.Connection) -> list[tuple[str, str, str, UUID]]:
    query = "SELECT tenant, recipient, reason, message_id FROM consumers.suppression"
    return list(session.execute(query))
