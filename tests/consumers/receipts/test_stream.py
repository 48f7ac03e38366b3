"""A provider that sends receipts over its own connection, in a real channel process."""

from collections.abc import Iterator
from json import JSONDecodeError
from pathlib import Path

import psycopg
import pytest

from comms.platform.kafka import Broker
from comms.platform.settings import Settings
from consumers.registry import providers_with_receipts
from schemas.ids import new_message_id
from schemas.vocabulary import Channel, Reason, Status
from tests.consumers import pager
from tests.consumers.harness import channel, eventually, listener, publish, settings_for, sms

PERSON = "+12025550142"


@pytest.fixture
def exchange() -> Iterator[pager.Exchange]:
    with pager.running_exchange() as running:
        yield running


@pytest.fixture
def settings(
    broker: Broker,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exchange: pager.Exchange,
) -> Settings:
    """Settings of a process whose only provider for text messages is connected to the exchange."""
    pager.install_pager(tmp_path, monkeypatch)
    config = tmp_path / "comms.toml"
    config.write_text(
        f'[[sms.providers]]\nname = "bleep"\ntype = "pager"\nport = {exchange.port}\n'
    )
    return settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))


def test_a_receipt_is_acknowledged_after_it_is_published(
    broker: Broker, settings: Settings, exchange: pager.Exchange
) -> None:
    arrived, lost = sms(), sms()
    with listener(broker) as status_topic, channel(settings):
        publish(broker, arrived, lost)
        for message in (arrived, lost):
            status_topic.wait_for(message.id, Status.SENT)
        assert exchange.send(id=str(arrived.id), delivered=True) == "stored"
        assert exchange.send(id=str(lost.id), delivered=False) == "stored"
        assert exchange.send(id=str(lost.id), delivered=False) == "stored"
        event = status_topic.wait_for(arrived.id, Status.DELIVERED)
        assert status_topic.wait_for(lost.id, Status.FAILED).reason is Reason.UNDELIVERED
    assert (event.provider, event.attempt) == ("bleep", 1)
    assert event.provider_message_id == f"page-{arrived.id}"
    assert [status for status, _ in status_topic.statuses(lost.id)].count(Status.FAILED) == 1


def test_a_receipt_that_cannot_be_stored_is_not_acknowledged(
    broker: Broker, settings: Settings, exchange: pager.Exchange
) -> None:
    message = sms()
    with (
        listener(broker) as status_topic,
        channel(settings),
        psycopg.connect(settings.need_database(), autocommit=True) as session,
    ):
        publish(broker, message)
        status_topic.wait_for(message.id, Status.SENT)
        session.execute(
            "ALTER TABLE consumers.receipt ADD CONSTRAINT no_room CHECK (false) NOT VALID"
        )
        assert exchange.send(id=str(message.id), delivered=True) == "retry"
        session.execute("ALTER TABLE consumers.receipt DROP CONSTRAINT no_room")
        status_topic.listen()
        assert Status.DELIVERED not in {status for status, _ in status_topic.statuses(message.id)}
        assert exchange.send(id=str(message.id), delivered=True) == "stored"
        status_topic.wait_for(message.id, Status.DELIVERED)


def test_a_person_who_writes_stop_is_suppressed(
    settings: Settings, exchange: pager.Exchange
) -> None:
    with channel(settings), psycopg.connect(settings.need_database(), autocommit=True) as session:
        session.execute(
            "INSERT INTO audit.state (message_id, tenant, channel, status, reason, attempts,"
            " provider, recipient, created_at, updated_at, metadata)"
            " VALUES (%s, 'acme', 'sms', 'sent', 'accepted', 1, 'bleep', %s, now(), now(), '{}')",
            (new_message_id(), PERSON),
        )
        session.execute(
            "INSERT INTO audit.evidence (tenant, channel, provider) VALUES ('acme', 'sms', 'bleep')"
        )
        assert exchange.send(**{"from": PERSON, "text": "STOP"}) == "stored"
        rows = session.execute("SELECT tenant, recipient FROM consumers.suppression").fetchall()
    assert rows == [("acme", PERSON)]


def test_a_defect_in_the_provider_ends_the_process_with_its_error(
    settings: Settings, exchange: pager.Exchange
) -> None:
    def run_until_it_fails() -> None:
        with channel(settings):
            exchange.send_nonsense()
            eventually(lambda: exchange.is_disconnected, "the connection is closed")

    with pytest.raises(JSONDecodeError):
        run_until_it_fails()


def test_a_provider_that_confirms_owes_a_receipt(settings: Settings) -> None:
    configured = settings.channels[Channel.SMS].providers[:1]
    assert providers_with_receipts(Channel.SMS, configured) == ["bleep"]
