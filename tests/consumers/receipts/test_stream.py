"""A provider that speaks over its own connection, in a real channel process with a real desk."""

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
    with pager.exchange() as made:
        yield made


@pytest.fixture
def settings(
    broker: Broker,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exchange: pager.Exchange,
) -> Settings:
    """Of a process whose one provider of text messages is connected to the exchange."""
    pager.installed(tmp_path, monkeypatch)
    config = tmp_path / "comms.toml"
    config.write_text(
        f'[[sms.providers]]\nname = "bleep"\ntype = "pager"\nport = {exchange.port}\n'
    )
    return settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))


def test_what_it_hears_is_announced_before_the_provider_may_forget_it(
    broker: Broker, settings: Settings, exchange: pager.Exchange
) -> None:
    arrived, lost = sms(), sms()
    with listener(broker) as heard, channel(settings):
        publish(broker, arrived, lost)
        for message in (arrived, lost):
            heard.wait_for(message.id, Status.SENT)
        assert exchange.say(id=str(arrived.id), delivered=True) == "taken"
        assert exchange.say(id=str(lost.id), delivered=False) == "taken"
        assert exchange.say(id=str(lost.id), delivered=False) == "taken"
        event = heard.wait_for(arrived.id, Status.DELIVERED)
        assert heard.wait_for(lost.id, Status.FAILED).reason is Reason.UNDELIVERED
    assert (event.provider, event.attempt) == ("bleep", 1)
    assert event.provider_message_id == f"page-{arrived.id}"
    assert [status for status, _ in heard.statuses(lost.id)].count(Status.FAILED) == 1


def test_what_cannot_be_kept_now_is_to_be_said_again(
    broker: Broker, settings: Settings, exchange: pager.Exchange
) -> None:
    message = sms()
    with (
        listener(broker) as heard,
        channel(settings),
        psycopg.connect(settings.need_database(), autocommit=True) as session,
    ):
        publish(broker, message)
        heard.wait_for(message.id, Status.SENT)
        session.execute(
            "ALTER TABLE consumers.receipt ADD CONSTRAINT no_room CHECK (false) NOT VALID"
        )
        assert exchange.say(id=str(message.id), delivered=True) == "again"
        session.execute("ALTER TABLE consumers.receipt DROP CONSTRAINT no_room")
        heard.listen()
        assert Status.DELIVERED not in {status for status, _ in heard.statuses(message.id)}
        assert exchange.say(id=str(message.id), delivered=True) == "taken"
        heard.wait_for(message.id, Status.DELIVERED)


def test_a_person_who_writes_stop_is_put_on_the_list(
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
        assert exchange.say(**{"from": PERSON, "text": "STOP"}) == "taken"
        found = session.execute("SELECT tenant, recipient FROM consumers.suppression").fetchall()
    assert found == [("acme", PERSON)]


def test_a_defect_in_it_ends_the_process_with_its_error(
    settings: Settings, exchange: pager.Exchange
) -> None:
    def run_until_it_fails() -> None:
        with channel(settings):
            exchange.say_nonsense()
            eventually(lambda: exchange.is_over, "the connection is closed")

    with pytest.raises(JSONDecodeError):
        run_until_it_fails()


def test_a_provider_that_confirms_owes_a_receipt(settings: Settings) -> None:
    configured = settings.channels[Channel.SMS].providers[:1]
    assert providers_with_receipts(Channel.SMS, configured) == ["bleep"]
