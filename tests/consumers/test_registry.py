"""Adapters from settings: what is built, and which key a mistake is blamed on."""

from pathlib import Path
from typing import Any

import pytest

from comms.platform.settings import SettingsError, load
from consumers.registry import build, build_or_missing, receipt_parsers
from consumers.sdk.receipts import NotSetUpError
from schemas.vocabulary import Channel
from tests.consumers.contract.samples import only_provider, settings_with

SMTP = {"name": "smtp", "host": "mail.example.com", "from": "news@acme.example"}
LOGIN = {"username": "mailer", "password_env": "SMTP_PASSWORD"}


def test_every_channel_has_the_simulated_provider_without_any_settings() -> None:
    settings = load({"COMMS_DATA_DIR": "no-such-folder"})
    for channel in Channel:
        assert build(channel, settings.channels[channel].providers[0], settings).name == "simulated"
    assert set(receipt_parsers(settings)) == {(channel, "simulated") for channel in Channel}


def test_a_provider_keeps_the_name_it_was_given() -> None:
    table = {**SMTP, "name": "office", "type": "smtp"}
    settings = settings_with(Channel.EMAIL, table)
    assert only_provider(settings, Channel.EMAIL).name == "office"
    assert (Channel.EMAIL, "office") not in receipt_parsers(settings)


@pytest.mark.parametrize("channel", Channel, ids=str)
def test_an_unknown_kind_is_named_with_those_there_are(channel: Channel) -> None:
    settings = settings_with(channel, {"name": "pigeon"})
    with pytest.raises(SettingsError, match=r"known: .*simulated") as caught:
        only_provider(settings, channel)
    assert caught.value.key == f"{channel}.providers[pigeon].type"
    with pytest.raises(SettingsError):
        receipt_parsers(settings)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"name": "smtp", "from": "news@acme.example"}, "host"),
        ({"name": "smtp", "host": "mail.example.com"}, "from"),
        ({**SMTP, "from": "nobody"}, "from"),
        ({**SMTP, "return_path": "nobody"}, "return_path"),
        ({**SMTP, "port": "a"}, "port"),
        ({**SMTP, "port": True}, "port"),
        ({**SMTP, "connections": 0}, "connections"),
        ({**SMTP, "security": "ssl"}, "security"),
        ({**SMTP, **LOGIN, "security": "none"}, "security"),
        ({**SMTP, "username": "mailer"}, "password_env"),
        ({**SMTP, "password_env": "SMTP_PASSWORD"}, "password_env"),
        ({**SMTP, "password": "in the file"}, "password"),
        ({**SMTP, "ca_file": "/no/such/file.pem"}, "ca_file"),
        ({"name": "simulated", "latency": 1}, "latency"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(table: dict[str, Any], key: str) -> None:
    settings = settings_with(Channel.EMAIL, table, environment={"SMTP_PASSWORD": "s"})
    with pytest.raises(SettingsError) as caught:
        only_provider(settings, Channel.EMAIL)
    assert caught.value.key == f"email.providers[{table['name']}].{key}"
    assert "\n" not in str(caught.value)


def test_a_missing_secret_is_named_by_its_variable() -> None:
    settings = settings_with(Channel.EMAIL, {**SMTP, **LOGIN})
    told = r"email\.providers\[smtp\]\.password_env needs it"
    with pytest.raises(SettingsError, match=told) as caught:
        only_provider(settings, Channel.EMAIL)
    assert caught.value.key == "SMTP_PASSWORD"


def test_a_missing_secret_keeps_only_its_own_provider_from_work() -> None:
    table = {"name": "twilio", "from": "+15005550006"}
    settings = settings_with(Channel.SMS, table)
    wanted = settings.channels[Channel.SMS].providers[0]
    provider, missing = build_or_missing(Channel.SMS, wanted, settings)
    assert provider.name == "twilio"
    assert missing == (
        "TWILIO_ACCOUNT_SID: not set, and sms.providers[twilio].account_sid_env needs it"
    )
    with pytest.raises(NotSetUpError, match="TWILIO_AUTH_TOKEN: not set"):
        receipt_parsers(settings)[Channel.SMS, "twilio"].parse({}, b"", "")


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"base_url": "http://twilio.example.com"}, "base_url"),
        ({"from": "+15005550006", "messaging_service_sid": "MG1"}, "from"),
        ({"timeout_seconds": 60}, "timeout_seconds"),
        ({"sender": "Acme"}, "sender"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_even_where_a_secret_is_missing(
    more: dict[str, Any], key: str
) -> None:
    settings = settings_with(Channel.SMS, {"name": "twilio", "from": "Acme", **more})
    with pytest.raises(SettingsError) as caught:
        build_or_missing(Channel.SMS, settings.channels[Channel.SMS].providers[0], settings)
    assert caught.value.key == f"sms.providers[twilio].{key}"


def test_a_package_elsewhere_adds_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "acme_ways-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-ways\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[comms.providers]\nsms.pager = acme_ways:PAGER\nsms.wrong = acme_ways:OTHER\n"
        "sms.lost = acme_ways:LOST\n"
    )
    (tmp_path / "acme_ways.py").write_text(
        "from consumers.sdk.provider_type import Kind\n"
        "from consumers.sdk.unconfigured import MissingProvider\n"
        "PAGER = Kind(build=lambda setup: MissingProvider(setup.name))\nOTHER = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = settings_with(Channel.SMS, {"name": "bleep", "type": "pager"})
    assert repr(only_provider(settings, Channel.SMS)) == "MissingProvider(bleep)"
    for kind in ("wrong", "lost"):
        with pytest.raises(SettingsError, match="acme_ways:"):
            only_provider(settings_with(Channel.SMS, {"name": kind}), Channel.SMS)
    known = "aws, lost, pager, simulated, smpp, sns, telnyx, twilio, vonage, wrong"
    with pytest.raises(SettingsError, match=f"known: {known}"):
        only_provider(settings_with(Channel.SMS, {"name": "pigeon"}), Channel.SMS)


def test_a_file_says_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "comms.toml"
    file.write_text(
        "[[email.providers]]\nname = 'office'\ntype = 'smtp'\nhost = 'mail.example.com'\n"
        "from = 'Acme <news@acme.example>'\nusername = 'mailer'\npassword_env = 'OFFICE'\n"
    )
    settings = load({"COMMS_CONFIG": str(file), "OFFICE": "the secret", "COMMS_DATA_DIR": "none"})
    office = only_provider(settings, Channel.EMAIL)
    assert office.name == "office"
    assert "the secret" not in repr(office) + repr(settings)
