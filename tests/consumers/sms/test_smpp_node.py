"""SMPP against an SMSC that is not ours, from the topic to the receipt and the suppression list."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from comms.platform.kafka import Broker
from comms.platform.settings import Settings
from consumers.sdk.outcomes import AccountError
from schemas.segments import segments
from schemas.vocabulary import OnDoubt, Reason, Status
from tests.consumers.contract.suite import call
from tests.consumers.harness import channel, eventually, listener, publish, settings_for, sms
from tests.consumers.sms.node_smsc import NodeSmsc, node_smsc
from tests.consumers.sms.smpp_samples import adapter
from tests.waiting import wait_for

pytestmark = pytest.mark.node

SYSTEM_ID, PASSWORD = "acme-two", "n0de-pw"
DELIVERED, INVALID, AMBIGUOUS = "+12025550100", "+12025550101", "+12025550105"
UNDELIVERED, LIMITED, OVERTAKEN = "+12025550107", "+12025550108", "+12025550109"
LATER = "+12025550110"
PERSON = "+12025550142"


@pytest.fixture
def smsc(tmp_path: Path) -> Iterator[NodeSmsc]:
    with node_smsc(tmp_path, system_id=SYSTEM_ID, password=PASSWORD) as one:
        yield one


@pytest.fixture
def settings(broker: Broker, database_url: str, tmp_path: Path, smsc: NodeSmsc) -> Settings:
    """Of a process whose one provider of text messages is the SMSC."""
    config = tmp_path / "comms.toml"
    config.write_text(
        f"""
        [sms]
        call_timeout_seconds = 3

        [[sms.providers]]
        name = "carrier"
        type = "smpp"
        host = "127.0.0.1"
        port = {smsc.port}
        security = "none"
        system_id = "{SYSTEM_ID}"
        from = "Acme"
        codes = {{ 0x40B = "account" }}
        """
    )
    return settings_for(
        broker, database_url, tmp_path, COMMS_CONFIG=str(config), SMPP_PASSWORD=PASSWORD
    )


def test_every_fate_of_a_text_is_announced(
    broker: Broker, settings: Settings, smsc: NodeSmsc
) -> None:
    messages = {to: sms(to) for to in (DELIVERED, INVALID, UNDELIVERED, LIMITED, OVERTAKEN)}
    messages[AMBIGUOUS] = sms(AMBIGUOUS, on_doubt=OnDoubt.HOLD)
    ids = {to: message.id for to, message in messages.items()}
    with listener(broker) as heard, channel(settings):
        publish(broker, *messages.values())
        delivered = heard.wait_for(ids[DELIVERED], Status.DELIVERED)
        assert heard.wait_for(ids[OVERTAKEN], Status.DELIVERED).provider == "carrier"
        assert heard.wait_for(ids[INVALID], Status.FAILED).reason is Reason.INVALID_RECIPIENT
        undelivered = heard.wait_for(ids[UNDELIVERED], Status.FAILED)
        assert undelivered.reason is Reason.UNDELIVERED
        heard.wait_for(ids[LIMITED], Status.SENT)
        assert heard.wait_for(ids[AMBIGUOUS], Status.UNKNOWN).reason is Reason.AMBIGUOUS
        for to in (DELIVERED, UNDELIVERED, OVERTAKEN):
            smsc.wait_for(answered=0, to=to.removeprefix("+"))
    assert delivered.code == "DELIVRD"
    assert str(delivered.provider_message_id).startswith("node-")
    assert len(smsc.submissions(AMBIGUOUS)) == 1
    assert len(smsc.submissions(LIMITED)) == 2


@pytest.mark.parametrize(
    "body", ["Grüße {aus} Wien: 10 € ~ [heute]. " * 8, "Привет 🎉 — до завтра, 你好. " * 7]
)
async def test_long_texts_are_read_there_as_they_were_written(smsc: NodeSmsc, body: str) -> None:
    for form in ("udh", "payload"):
        to = DELIVERED[:-5] + ("0" if form == "udh" else "1") + "0133"
        table = {"system_id": SYSTEM_ID, "long_texts": form}
        async with adapter(smsc.port, password=PASSWORD, **table) as provider:
            outcome = await call(provider, sms(to, body=body))
        parts = smsc.submissions(to)
        assert "".join(one["text"] for one in parts) == body
        total = segments(body).count if form == "udh" else 1
        assert len(parts) == total
        assert outcome.response.detail is None
        if form == "udh":
            places = [bytes.fromhex(one["udh"][0]) for one in parts]
            assert [one[-2:] for one in places] == [bytes((total, n + 1)) for n in range(total)]


async def test_a_wrong_password_is_the_accounts_fault(smsc: NodeSmsc) -> None:
    async with adapter(smsc.port, system_id=SYSTEM_ID) as provider:
        outcome = await call(provider, sms(DELIVERED))
        assert isinstance(outcome, AccountError)
        assert outcome.response.code == "0x0000000E"
    assert smsc.submissions(DELIVERED) == []


def test_a_receipt_that_comes_to_the_next_process_is_placed_by_the_ledger(
    broker: Broker, settings: Settings, smsc: NodeSmsc
) -> None:
    message = sms(LATER, body="One text of several parts, all of them delivered later. " * 6)
    with listener(broker) as heard:
        with channel(settings):
            publish(broker, message)
            sent = heard.wait_for(message.id, Status.SENT)
        parts = smsc.submissions(LATER)
        assert len(parts) == 3
        with channel(settings):
            delivered = heard.wait_for(message.id, Status.DELIVERED)
            wait_for(lambda: len(smsc.said(answered=0)) == 3, seconds=60, what="three answers")
    assert delivered.provider_message_id == sent.provider_message_id == "node-3"
    assert "message_ids=node-1,node-2,node-3" in str(sent.response)


def test_a_person_who_writes_stop_is_put_on_the_list(
    broker: Broker, settings: Settings, smsc: NodeSmsc
) -> None:
    message = sms(PERSON)
    with (
        listener(broker) as heard,
        channel(settings),
        psycopg.connect(settings.need_database(), autocommit=True) as session,
    ):
        session.execute(
            "INSERT INTO audit.state (message_id, tenant, channel, status, reason, attempts,"
            " provider, recipient, created_at, updated_at, metadata)"
            " VALUES (%s, 'acme', 'sms', 'sent', 'accepted', 1, 'carrier', %s, now(), now(), '{}')",
            (message.id, PERSON),
        )
        session.execute(
            "INSERT INTO audit.evidence (tenant, channel, provider)"
            " VALUES ('acme', 'sms', 'carrier')"
        )
        publish(broker, message)
        heard.wait_for(message.id, Status.SENT)
        smsc.wait_for(answered=0, to=PERSON.removeprefix("+"))
        found = session.execute("SELECT tenant, recipient FROM consumers.suppression").fetchall()
    assert found == [("acme", PERSON)]


def test_what_cannot_be_kept_now_is_delivered_again_by_the_smsc(
    broker: Broker, settings: Settings, smsc: NodeSmsc
) -> None:
    message = sms(DELIVERED)
    with (
        listener(broker) as heard,
        channel(settings),
        psycopg.connect(settings.need_database(), autocommit=True) as session,
    ):
        session.execute(
            "ALTER TABLE consumers.receipt ADD CONSTRAINT no_room CHECK (false) NOT VALID"
        )
        publish(broker, message)
        smsc.wait_for(answered=0x64)
        session.execute("ALTER TABLE consumers.receipt DROP CONSTRAINT no_room")
        heard.wait_for(message.id, Status.DELIVERED)
        eventually(lambda: bool(smsc.said(answered=0)), "the receipt is taken")
