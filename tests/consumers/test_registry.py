"""Adapters from settings: what is built, what stops the process, and which key an error names."""

from pathlib import Path
from typing import Any

import pytest

from comms.platform.settings import (
    MissingSecretError,
    SettingsError,
    UnknownSettingError,
    load,
)
from consumers.registry import build, build_or_unconfigured, capabilities_of, receipt_parsers
from consumers.sdk.capabilities import ANY_MODE
from consumers.sdk.receipts import NotSetUpError
from schemas.vocabulary import Channel
from tests.consumers.contract.samples import only_provider, settings_with
from tests.provider_types import add_package

SMTP = {"name": "smtp", "host": "mail.example.com", "from": "news@acme.example"}
LOGIN = {"username": "mailer", "password_env": "SMTP_PASSWORD"}
TWILIO = {"name": "twilio", "from": "+15005550006"}


def problem_of(channel: Channel, table: dict[str, Any], **environment: str) -> str | None:
    """Return why the only provider of a channel is not set up."""
    settings = settings_with(channel, table, environment=environment)
    provider = settings.channels[channel].providers[0]
    built, problem = build_or_unconfigured(channel, provider, settings)
    assert built.name == table["name"]
    return problem


def test_every_channel_has_the_simulated_provider_without_any_settings() -> None:
    settings = load({"COMMS_DATA_DIR": "no-such-folder"})
    for channel in Channel:
        assert build(channel, settings.channels[channel].providers[0], settings).name == "simulated"
    assert set(receipt_parsers(settings)) == {(channel, "simulated") for channel in Channel}


def test_a_provider_keeps_the_name_in_its_table() -> None:
    table = {**SMTP, "name": "office", "type": "smtp"}
    settings = settings_with(Channel.EMAIL, table)
    assert only_provider(settings, Channel.EMAIL).name == "office"
    assert (Channel.EMAIL, "office") not in receipt_parsers(settings)


@pytest.mark.parametrize("channel", Channel, ids=str)
def test_an_unknown_type_stops_the_process_and_the_known_ones_are_listed(channel: Channel) -> None:
    settings = settings_with(channel, {"name": "pigeon"})
    with pytest.raises(UnknownSettingError, match=r"known: .*simulated") as caught:
        only_provider(settings, channel)
    assert caught.value.key == f"{channel}.providers[pigeon].type"
    with pytest.raises(UnknownSettingError):
        receipt_parsers(settings)


@pytest.mark.parametrize(
    ("table", "option"),
    [
        ({"name": "smtp", "from": "news@acme.example"}, "host"),
        ({"name": "smtp", "host": "mail.example.com"}, "from"),
        ({**SMTP, "from": "nobody"}, "from"),
        ({**SMTP, "return_path": "nobody"}, "return_path"),
        ({**SMTP, "port": "a"}, "port"),
        ({**SMTP, "port": True}, "port"),
        ({**SMTP, "port": "587"}, "port"),
        ({**SMTP, "port": 70000}, "port"),
        ({**SMTP, "connections": 0}, "connections"),
        ({**SMTP, "security": "ssl"}, "security"),
        ({**SMTP, **LOGIN, "security": "none"}, "security"),
        ({**SMTP, "username": "mailer"}, "password_env"),
        ({**SMTP, "password_env": "SMTP_PASSWORD"}, "password_env"),
        ({**SMTP, "ca_file": "/no/such/file.pem"}, "ca_file"),
        ({"name": "simulated", "tests_only": 1}, "tests_only"),
    ],
    ids=str,
)
def test_a_wrong_value_leaves_only_its_provider_unused(table: dict[str, Any], option: str) -> None:
    problem = problem_of(Channel.EMAIL, table, SMTP_PASSWORD="s")
    assert problem is not None
    assert problem.startswith(f"email.providers[{table['name']}].{option}: ")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("table", "option"),
    [
        ({**SMTP, "password": "in the file"}, "password"),
        ({**SMTP, "pasword_env": "X", "port": "a"}, "pasword_env"),
        ({**SMTP, "pasword_env": "X", "username": "mailer"}, "pasword_env"),
        ({"name": "simulated", "latency": 1}, "latency"),
    ],
    ids=str,
)
def test_an_unknown_option_stops_the_process(table: dict[str, Any], option: str) -> None:
    settings = settings_with(Channel.EMAIL, table)
    provider = settings.channels[Channel.EMAIL].providers[0]
    for action in (build_or_unconfigured, capabilities_of):
        with pytest.raises(UnknownSettingError, match="no such setting; known: ") as caught:
            action(Channel.EMAIL, provider, settings)
        assert caught.value.key == f"email.providers[{table['name']}].{option}"
    with pytest.raises(UnknownSettingError):
        receipt_parsers(settings)


def test_a_provider_with_a_wrong_value_accepts_any_mode_so_that_messages_wait() -> None:
    settings = settings_with(Channel.EMAIL, {**SMTP, "port": "a"})
    provider = settings.channels[Channel.EMAIL].providers[0]
    assert capabilities_of(Channel.EMAIL, provider, settings).modes == ANY_MODE


def test_a_missing_secret_is_named_by_its_variable() -> None:
    settings = settings_with(Channel.EMAIL, {**SMTP, **LOGIN})
    message = r"email\.providers\[smtp\]\.password_env needs it"
    with pytest.raises(MissingSecretError, match=message) as caught:
        only_provider(settings, Channel.EMAIL)
    assert caught.value.key == "SMTP_PASSWORD"


def test_a_missing_secret_leaves_only_its_provider_unused() -> None:
    assert problem_of(Channel.SMS, TWILIO) == (
        "TWILIO_ACCOUNT_SID: not set, and sms.providers[twilio].account_sid_env needs it"
    )
    with pytest.raises(NotSetUpError, match="TWILIO_AUTH_TOKEN: not set"):
        receipt_parsers(settings_with(Channel.SMS, TWILIO))[Channel.SMS, "twilio"].parse(
            {}, b"", ""
        )


def test_the_adapter_works_without_the_secret_of_its_receipts() -> None:
    table = {"name": "telnyx", "from": "Acme"}
    environment = {"TELNYX_API_KEY": "the key"}
    assert problem_of(Channel.SMS, table, **environment) is None
    settings = settings_with(Channel.SMS, table, environment=environment)
    with pytest.raises(NotSetUpError, match="TELNYX_PUBLIC_KEY: not set"):
        receipt_parsers(settings)[Channel.SMS, "telnyx"].parse({}, b"", "")


def test_receipts_of_a_provider_with_a_wrong_value_are_asked_for_again() -> None:
    parsers = receipt_parsers(settings_with(Channel.SMS, {"name": "telnyx"}))
    with pytest.raises(NotSetUpError, match=r"sms\.providers\[telnyx\]\.from"):
        parsers[Channel.SMS, "telnyx"].parse({}, b"", "")


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"base_url": "http://twilio.example.com"}, "base_url"),
        ({"from": "+15005550006", "messaging_service_sid": "MG1"}, "from"),
        ({"timeout_seconds": 60}, "timeout_seconds"),
        ({"api_key_env": 5}, "api_key_env"),
    ],
    ids=str,
)
def test_a_wrong_value_is_reported_before_a_missing_secret(
    more: dict[str, Any], option: str
) -> None:
    problem = problem_of(Channel.SMS, {**TWILIO, **more})
    assert problem is not None
    assert problem.startswith(f"sms.providers[twilio].{option}: ")


def test_a_field_is_named_by_its_key_in_the_file_alone() -> None:
    with pytest.raises(UnknownSettingError, match=r"twilio\]\.sender: .*known: .*from"):
        problem_of(Channel.SMS, {**TWILIO, "sender": "Acme"})


NEW_SURFACE = """
from consumers.sdk import Port, ProviderOptions, ProviderType
from consumers.sdk.unconfigured import UnconfiguredProvider

class PagerOptions(ProviderOptions):
    port: Port = 4444

def build(context):
    return UnconfiguredProvider(f"{context.name}:{context.options.port}")

PAGER = ProviderType(options=PagerOptions, build=build)
OTHER = 1
"""


def test_another_package_adds_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"sms.pager": "PAGER", "sms.wrong": "OTHER", "sms.lost": "LOST"}
    add_package(tmp_path, monkeypatch, module="acme_pager", source=NEW_SURFACE, names=names)
    table = {"name": "bleep", "type": "pager", "port": 5}
    settings = settings_with(Channel.SMS, table)
    assert only_provider(settings, Channel.SMS).name == "bleep:5"
    with pytest.raises(UnknownSettingError, match=r"bleep\]\.prot: no such setting; known: port"):
        only_provider(settings_with(Channel.SMS, {**table, "prot": 5}), Channel.SMS)
    for name in ("wrong", "lost"):
        with pytest.raises(SettingsError, match="acme_pager:"):
            only_provider(settings_with(Channel.SMS, {"name": name}), Channel.SMS)
    known = "aws, lost, pager, simulated, smpp, sns, telnyx, twilio, vonage, wrong"
    with pytest.raises(SettingsError, match=f"known: {known}"):
        only_provider(settings_with(Channel.SMS, {"name": "pigeon"}), Channel.SMS)


def test_a_file_may_have_every_key_of_a_provider(tmp_path: Path) -> None:
    file = tmp_path / "comms.toml"
    file.write_text(
        "[[email.providers]]\nname = 'office'\ntype = 'smtp'\nhost = 'mail.example.com'\n"
        "from = 'Acme <news@acme.example>'\nusername = 'mailer'\npassword_env = 'OFFICE'\n"
    )
    settings = load({"COMMS_CONFIG": str(file), "OFFICE": "the secret", "COMMS_DATA_DIR": "none"})
    office = only_provider(settings, Channel.EMAIL)
    assert office.name == "office"
    assert "the secret" not in repr(office) + repr(settings)
