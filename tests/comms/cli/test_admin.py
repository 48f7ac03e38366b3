"""Keys, topics, schemas and `comms doctor`, on a real database and a real broker."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import psycopg
import pytest

from comms.platform import keys
from comms.platform.kafka import Broker
from schemas.topics import TOPICS
from tests.comms.cli.conftest import Run
from tests.comms.cli.fake_api import FakeApi

UNREACHABLE = "postgresql://comms:secret-word@127.0.0.1:1/comms"


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database, with its URL in the environment."""
    monkeypatch.setenv("COMMS_DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def kafka(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker, with its address in the environment."""
    servers = broker.properties["bootstrap.servers"]
    monkeypatch.setenv("COMMS_KAFKA_BOOTSTRAP_SERVERS", servers)
    return broker


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(
    comms: Run, database: str
) -> None:
    created = json.loads(comms("keys", "create", "--tenant", "acme", "--name", "ci", "--json").out)
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT tenant FROM comms.api_key WHERE hash = %s", (keys.hash_key(created["key"]),)
        ).fetchone()
    assert row == ("acme",)
    listed = comms("keys", "list", "--json")
    assert created["key"] not in listed.out
    (row,) = json.loads(listed.out)["items"]
    assert (row["tenant"], row["name"], row["mode"]) == ("acme", "ci", "live")
    assert row["revoked_at"] is None
    assert comms("keys", "revoke", row["id"]).code == 0
    assert json.loads(comms("keys", "list", "--json").out)["items"][0]["revoked_at"]
    again = comms("keys", "revoke", row["id"])
    assert again.code == 1
    assert again.err == f"comms: there is no active key {row['id']}\n"


def test_only_the_key_is_printed_so_that_it_can_be_piped(comms: Run, database: str) -> None:
    ran = comms("keys", "create")
    assert ran.out.startswith("ck_")
    assert ran.out.count("\n") == 1


def test_an_unreachable_database_is_one_line_without_the_password(
    comms: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_DATABASE_URL", UNREACHABLE)
    for command in (("keys", "list"), ("db", "upgrade")):
        ran = comms(*command)
        assert ran.code == 1
        assert ran.err.startswith("comms: ")
        assert ran.err.count("\n") == 1
        assert "secret-word" not in ran.err


def test_upgrading_an_upgraded_database_succeeds(comms: Run, database: str) -> None:
    assert comms("db", "upgrade").code == 0


def test_topics_exist_after_apply(comms: Run, kafka: Broker) -> None:
    assert json.loads(comms("topics", "apply", "--json").out) == {"created": []}
    assert {topic.name for topic in TOPICS} <= kafka.list_topics().keys()


def test_the_schemas_of_this_tree_are_compatible(comms: Run) -> None:
    ran = comms("schemas", "check", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["findings"] == []


def checks(comms: Run) -> tuple[int, dict[str, dict[str, object]]]:
    """Run the doctor; return the exit code and the checks by subject."""
    ran = comms("doctor", "--json")
    document = json.loads(ran.out)
    assert document["ok"] is (ran.code == 0)
    return ran.code, {check["about"]: check for check in document["checks"]}


def channel(name: str, readiness: str) -> dict[str, object]:
    """Return the part of `GET /v1/channels` that the doctor reads."""
    return {
        "channel": name,
        "readiness": readiness,
        "problem": None,
        "consumers": 1,
        "providers": [{"name": "acme", "readiness": readiness}],
    }


def test_the_doctor_finds_nothing_if_everything_works(
    comms: Run, database: str, kafka: Broker, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_SIMULATOR_URL", api.url)
    api.channels.append(channel("sms", "live"))
    code, results = checks(comms)
    assert (code, [check for check in results.values() if not check["ok"]]) == (0, [])
    assert {"Kafka", "topics", "PostgreSQL", "database schema", "API", "sms"} <= results.keys()


def test_the_doctor_reports_each_problem_with_a_remedy(
    comms: Run, postgres_url: str, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("COMMS_DATABASE_URL", postgres_url)
    monkeypatch.setenv("COMMS_SIMULATOR_URL", "http://127.0.0.1:1")
    api.channels.append(channel("sms", "setup_needed"))
    code, results = checks(comms)
    assert code == 1
    remedies = {about: check["mend"] for about, check in results.items() if not check["ok"]}
    assert remedies.keys() == {"Kafka", "database schema", "sms", "simulated provider"}
    assert all(remedies.values())
    assert "comms db upgrade" in str(remedies["database schema"])


TWILIO = """
[[sms.providers]]
name = "twilio"
from = "+15005550006"
base_url = "http://127.0.0.1:{port}"
[[sms.providers]]
name = "backup"
type = "twilio"
from = "+15005550006"
auth_token_env = "BACKUP_TOKEN"
base_url = "http://127.0.0.1:{port}"
"""


class Accounts(BaseHTTPRequestHandler):
    """A Twilio API as far as a probe needs it: one account, which is suspended."""

    def do_GET(self) -> None:
        """Answer with the account."""
        body = b'{"status": "suspended"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.mark.parametrize("consumers", [0, 1])
def test_the_doctor_probes_providers_of_channels_without_a_process(
    comms: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, consumers: int
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Accounts)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = tmp_path / "comms.toml"
    config.write_text(TWILIO.format(port=server.server_port))
    monkeypatch.setenv("COMMS_CONFIG", str(config))
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "a token")
    api.channels.append(channel("sms", "live") | {"consumers": consumers})
    try:
        _, results = checks(comms)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    probed = {about: check["said"] for about, check in results.items() if " by " in about}
    if consumers:
        assert probed == {}
        return
    assert probed == {
        "sms by twilio": "the account is suspended",
        "sms by backup": "BACKUP_TOKEN: not set, and sms.providers[backup].auth_token_env needs it",
    }


def test_the_doctor_prints_a_marked_line_per_check(
    comms: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMMS_DATA_DIR", str(tmp_path))
    ran = comms("doctor")
    assert ran.code == 1
    assert "✓ Avro schemas" in ran.out
    assert "✗ PostgreSQL: COMMS_DATABASE_URL: not set" in ran.out


def test_a_wrong_setting_is_one_line_that_names_the_key(
    comms: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMS_HTTP_PORT", "high")
    ran = comms("find")
    assert (ran.code, ran.err) == (1, "comms: COMMS_HTTP_PORT: must be a port, 1 to 65535\n")


@pytest.mark.parametrize(
    "command",
    [
        *("up", "run", "send", "show", "find", "channels", "resend", "resolve", "doctor"),
        *("keys create", "keys list"),
        *("keys revoke", "db upgrade", "topics apply", "schemas check"),
        *("dead-letters list", "dead-letters show", "dead-letters replay"),
        *("suppressions list", "suppressions add", "suppressions remove"),
    ],
)
def test_every_command_has_help(command: str, comms: Run) -> None:
    ran = comms(*command.split(), "--help")
    assert ran.code == 0
    assert f"comms {command}" in ran.out


def test_an_unknown_service_is_refused_with_the_choices(comms: Run) -> None:
    ran = comms("run", "fax")
    assert ran.code == 2
    assert "relay" in ran.err


def test_the_version_is_printed(comms: Run) -> None:
    ran = comms("--version")
    assert (ran.code, ran.out) == (0, f"comms {version('communications')}\n")


def test_the_former_name_of_the_run_id_is_not_in_the_help(comms: Run) -> None:
    ran = comms("resend", "--help")
    assert "--run-id" in ran.out
    assert "--nonce" not in ran.out
