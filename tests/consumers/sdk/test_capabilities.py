"""Notifications by platform and messages for tests, through a channel's whole process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg

from comms.platform.kafka import Broker
from schemas.ids import new_message_id
from schemas.messages import PushMessage
from schemas.vocabulary import Channel, Mode, Platform, Reason, Status
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
[[push.providers]]
name = "expo"
base_url = "http://127.0.0.1:{port}"
[[push.providers]]
name = "simulated"
tests_only = true
"""


class Expo(ThreadingHTTPServer):
    """Expo's end: takes everything, and remembers to whom."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.sent_to: list[str] = []
        self.gone: set[str] = set()

    def ticket(self, token: str) -> dict[str, object]:
        """What becomes of a notification to a device."""
        if token in self.gone:
            return {"status": "error", "details": {"error": "DeviceNotRegistered"}}
        return {"status": "ok", "id": f"ticket-{token}"}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Expo)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tokens = [token for one in asked if isinstance(one, dict) for token in one["to"]]
        server.sent_to += tokens
        tickets = [server.ticket(token) for token in tokens]
        body = json.dumps({"data": tickets}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def expo(port: int = 0) -> Iterator[Expo]:
    server = Expo(port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def push(token: str, **changes: object) -> PushMessage:
    plain = sms()
    values: dict[str, object] = {
        "id": new_message_id(),
        "tenant": plain.tenant,
        "created_at": plain.created_at,
        "title": "Hello",
        "body": "Nine o'clock",
        "tokens": (token,),
    }
    return PushMessage(**(values | changes))  # type: ignore[arg-type]


def test_each_goes_where_it_is_meant_to_or_fails_and_says_why(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    by_name = push("ExpoPushToken[1]", platform=Platform.EXPO)
    by_look = push("ExpoPushToken[2]")
    nobodys = push("a1b2" * 16)
    simulated = push("ExpoPushToken[3]", mode=Mode.SIMULATED)
    test = push("ExpoPushToken[4]", mode=Mode.TEST)
    with expo() as server:
        config.write_text(CONFIG.format(port=server.server_port))
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        with simulator(settings), listener(broker) as heard, channel(settings, Channel.PUSH):
            publish(broker, by_name, by_look, nobodys, simulated, test)
            sent = (by_name, by_look, simulated, test)
            providers = [heard.wait_for(one.id, Status.SENT).provider for one in sent]
            failed = heard.wait_for(nobodys.id, Status.FAILED)
        assert sorted(server.sent_to) == ["ExpoPushToken[1]", "ExpoPushToken[2]"]
    assert providers == ["expo", "expo", "simulated", "simulated"]
    assert (failed.reason, failed.detail) == (
        Reason.NO_PROVIDER,
        "no provider of the channel sends to apns",
    )
    assert heard.statuses(nobodys.id) == [(Status.FAILED, Reason.NO_PROVIDER)]


def test_a_device_that_is_gone_is_told_and_left_out_from_then_on(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    dead, alive = "ExpoPushToken[dead]", "ExpoPushToken[alive]"
    first, second = push(dead, tokens=(dead, alive)), push(dead, tokens=(dead, alive))
    alone = push(dead)
    with (
        expo() as server,
        psycopg.connect(database_url, autocommit=True) as session,
    ):
        server.gone.add(dead)
        config.write_text(CONFIG.format(port=server.server_port))
        settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
        with simulator(settings), listener(broker) as heard, channel(settings, Channel.PUSH):
            publish(broker, first)
            heard.wait_for(first.id, Status.SENT)
            publish(broker, second, alone)
            sent = heard.wait_for(second.id, Status.SENT)
            failed = heard.wait_for(alone.id, Status.FAILED)
        listed = session.execute(
            "SELECT recipient, reason, message_id FROM consumers.suppression"
        ).fetchall()
        assert server.sent_to == [dead, alive, alive]
    assert listed == [(dead, "hard_bounce", first.id)]
    assert heard.statuses(first.id) == [
        (Status.SENDING, Reason.CLAIMED),
        (Status.SENDING, Reason.INVALID_RECIPIENT),
        (Status.SENT, Reason.ACCEPTED),
    ]
    (_, gone, _) = heard.events[first.id]
    assert gone.detail == "1 of 2 devices accepted, 1 are gone"
    assert json.loads(sent.response or "")[0]["became"] == "suppressed"
    assert failed.reason is Reason.SUPPRESSED


def test_an_outage_of_one_platform_delays_no_other_and_loses_nothing(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    """Expo is down; more of its messages wait than the channel's process works on at once."""
    config = tmp_path / "comms.toml"
    with expo() as server:
        port = server.server_port
    config.write_text(
        "[push]\nconcurrency = 2\n[push.routing]\nbreaker_failures = 2\nbreaker_rest_seconds = 1\n"
        + CONFIG.format(port=port)
    )
    settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
    waiting = [push(f"ExpoPushToken[{n}]") for n in range(20)]
    passing = [push(f"simulator:{n}", mode=Mode.SIMULATED) for n in range(3)]
    with simulator(settings), listener(broker) as heard, channel(settings, Channel.PUSH):
        publish(broker, *waiting, *passing)
        for one in passing:
            heard.wait_for(one.id, Status.SENT)
        with expo(port) as server:
            for one in waiting:
                heard.wait_for(one.id, Status.SENT)
            eventually(lambda: len(set(server.sent_to)) == len(waiting), "each of them")
