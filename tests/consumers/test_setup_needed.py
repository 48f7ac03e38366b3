"""A mistake in one provider's table: what stops the channel, and what only leaves it unused."""

from pathlib import Path

import psycopg
import pytest

from comms.platform.kafka import Broker
from comms.platform.settings import UnknownSettingError
from schemas.vocabulary import Status
from tests.consumers.harness import (
    channel,
    eventually,
    listener,
    publish,
    settings_for,
    simulator,
    sms,
)

TABLES = """
[[sms.providers]]
name = "twilio"
from = "+12025550100"
{mistake}

[[sms.providers]]
name = "simulated"
"""


def readiness(session: psycopg.Connection) -> dict[str, tuple[str, str | None]]:
    """Return the readiness and the problem of each provider, as the channel reported them."""
    rows = session.execute("SELECT providers FROM consumers.worker").fetchall()
    return {p["name"]: (p["readiness"], p["problem"]) for (found,) in rows for p in found}


def test_a_wrong_value_is_reported_and_the_other_provider_sends(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    config.write_text(TABLES.format(mistake='base_url = "ftp://api.twilio.com"'))
    settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
    message = sms()
    with (
        simulator(settings),
        listener(broker) as events,
        channel(settings),
        psycopg.connect(database_url, autocommit=True) as session,
    ):
        publish(broker, message)
        assert events.wait_for(message.id, Status.SENT).provider == "simulated"
        eventually(lambda: "twilio" in readiness(session), "a report")
        state, problem = readiness(session)["twilio"]
    assert state == "setup_needed"
    assert problem == (
        "sms.providers[twilio].base_url: must begin with https:// (http:// on this machine only)"
    )


def test_an_unknown_option_stops_the_channel(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "comms.toml"
    config.write_text(TABLES.format(mistake='base_ulr = "https://api.twilio.com"'))
    settings = settings_for(broker, database_url, tmp_path, COMMS_CONFIG=str(config))
    with (
        pytest.raises(UnknownSettingError, match=r"^sms\.providers\[twilio\]\.base_ulr: no such"),
        channel(settings) as stop,
    ):
        stop()
