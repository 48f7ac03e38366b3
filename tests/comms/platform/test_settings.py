"""Settings of the file and of the environment: which value wins, and what an error names."""

from pathlib import Path

import pytest

from comms.platform.settings import Settings, SettingsError, UnknownSettingError, load
from schemas.vocabulary import Channel, OnDoubt


def read(folder: Path, text: str, **environment: str) -> Settings:
    """Return the settings of a file with this text."""
    file = folder / "comms.toml"
    file.write_text(text, encoding="utf-8")
    return load({"COMMS_CONFIG": str(file), "COMMS_DATA_DIR": str(folder), **environment})


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [
        ('databse_url = "x"', "databse_url", "database_url"),
        ('[[smss.providers]]\nname = "twilio"', "smss", "sms"),
        ("[tenant]\nrate_limit = 1", "tenant", "tenants"),
        ("[tenants]\nrate = 1", "tenants.rate", "rate_limit"),
        ("[tenants.acme]\nrate = 1", "tenants.acme.rate", "rate_limit"),
        ("[sms]\nretries = 1", "sms.retries", "retry"),
        ("[sms.retry]\nattempt = 1", "sms.retry.attempt", "attempts"),
        ("[email.routing]\nwindow = 1", "email.routing.window", "window_seconds"),
    ],
)
def test_an_unknown_key_is_refused_at_every_level(
    tmp_path: Path, text: str, key: str, known: str
) -> None:
    with pytest.raises(UnknownSettingError) as caught:
        read(tmp_path, text)
    assert caught.value.key == key
    message = str(caught.value)
    assert message.startswith(f"{key}: no such setting; known: ")
    assert known in message.partition("known: ")[2].split(", ")
    assert "\n" not in message


def test_an_unknown_key_is_reported_before_a_wrong_value(tmp_path: Path) -> None:
    with pytest.raises(UnknownSettingError, match=r"^sms\.retry\.attempt: "):
        read(tmp_path, "[sms.retry]\nattempts = 0\nattempt = 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http_port = 0", "http_port: must be a port, 1 to 65535"),
        ("http_port = true", "http_port: must be a port, 1 to 65535"),
        ("http_host = 5", "http_host: must be a text"),
        ('database_url = "mysql://h/d"', "database_url: must begin with postgresql://"),
        ("sms = 5", "sms: must be a table"),
        ("[sms]\nretry = 5", "sms.retry: must be a table"),
        ("[sms]\nconcurrency = 0", "sms.concurrency: must be at least 1"),
        ("[sms]\nconcurrency = 2.5", "sms.concurrency: must be a whole number"),
        ("[sms]\nconcurrency = inf", "sms.concurrency: must be a whole number"),
        ("[sms]\nconcurrency = true", "sms.concurrency: must be a number"),
        ("[sms]\ncall_timeout_seconds = []", "sms.call_timeout_seconds: must be a number"),
        ('[sms]\non_doubt = "maybe"', "sms.on_doubt: must be one of: resend, hold"),
        ("[sms]\nproviders = 5", "sms.providers: write it as [[…]] tables"),
        ("[sms]\nproviders = [5]", "sms.providers[0]: must be a table"),
        ("[[sms.providers]]\nweight = 5", "sms.providers[0].name: missing"),
        ('[[sms.providers]]\nname = ""', "sms.providers[0].name: must not be empty"),
        ('[[sms.providers]]\nname = "a"\ntype = 5', "sms.providers[a].type: must be a text"),
        (
            '[[sms.providers]]\nname = "a"\nweight = -1',
            "sms.providers[a].weight: must be at least 0",
        ),
        (
            '[[sms.providers]]\nname = "a"\n[[sms.providers]]\nname = "a"',
            "sms.providers: two providers have the same name",
        ),
        ("[kafka]\nbootstrap.servers = 5", "kafka.bootstrap: must be a text or a number; a name"),
        ("[tenants]\nburst = 0", "tenants.burst: must be at least 1"),
    ],
)
def test_a_wrong_value_is_named_with_its_full_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert not isinstance(caught.value, UnknownSettingError)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "variable", ["COMMS_HTTP_PORT", "COMMS_DATABASE_URL", "COMMS_SMS_CONCURRENCY"]
)
def test_a_wrong_value_of_the_environment_is_named_by_its_variable(
    tmp_path: Path, variable: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, "", **{variable: "the wrong value"})
    assert caught.value.key == variable
    assert "the wrong value" not in str(caught.value)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = (
        'database_url = "postgres://file/d"\nhttp_port = 1\npublic_url = "https://file/"\n'
        '[kafka]\n"bootstrap.servers" = "file:1"\n"linger.ms" = 5\n[sms]\nconcurrency = 1'
    )
    environment = {
        "COMMS_DATABASE_URL": "postgres://environment/d",
        "COMMS_HTTP_PORT": "2",
        "COMMS_PUBLIC_URL": "",
        "COMMS_KAFKA_BOOTSTRAP_SERVERS": "environment:2",
        "COMMS_SMS_CONCURRENCY": "3",
    }
    settings = read(tmp_path, text, **environment)
    assert settings.database_url == "postgresql://environment/d"
    assert settings.http_port == 2
    assert settings.public_url == "https://file"
    assert settings.kafka == {"bootstrap.servers": "environment:2", "linger.ms": "5"}
    assert settings.channels[Channel.SMS].concurrency == 3


def test_the_file_wins_over_the_stack(tmp_path: Path) -> None:
    (tmp_path / "stack.toml").write_text(
        'database_url = "postgresql://stack/d"\nsimulator_url = "http://stack"\n'
        'kafka_bootstrap_servers = "stack:1"\nurl = "http://stack:80"\n'
    )
    settings = read(tmp_path, 'database_url = "postgresql://file/d"')
    assert settings.database_url == "postgresql://file/d"
    assert settings.simulator_url == "http://stack"
    assert settings.kafka == {"bootstrap.servers": "stack:1"}
    assert settings.public_url == settings.api_url == "http://stack:80"
    by_name = {p.name: p for p in settings.channels[Channel.PUSH].providers}
    assert set(by_name) == {"simulated"}


def test_a_known_simulator_is_added_to_the_providers_for_tests_only(tmp_path: Path) -> None:
    text = 'simulator_url = "http://sim"\n[[sms.providers]]\nname = "twilio"'
    real, simulated = read(tmp_path, text).channels[Channel.SMS].providers
    assert (real.name, real.type, real.weight) == ("twilio", "twilio", 100)
    assert (simulated.name, simulated.weight) == ("simulated", 0)
    assert simulated.options == {"tests_only": True}


def test_numbers_may_be_written_as_texts_and_choices_are_values(tmp_path: Path) -> None:
    text = '[sms]\nconcurrency = "7"\non_doubt = "hold"\n[sms.retry]\nattempts = 3.0'
    settings = read(tmp_path, text).channels[Channel.SMS]
    assert (settings.concurrency, settings.on_doubt) == (7, OnDoubt.HOLD)
    assert settings.retry.attempts == 3


def test_options_are_what_the_shared_keys_leave(tmp_path: Path) -> None:
    text = (
        '[[sms.providers]]\nname = "a"\ntype = "b"\nweight = 3\nrate_limit = 2\n'
        "options = 1\nport = 2"
    )
    (provider,) = read(tmp_path, text).channels[Channel.SMS].providers
    assert (provider.name, provider.type, provider.weight, provider.rate_limit) == ("a", "b", 3, 2)
    assert provider.options == {"options": 1, "port": 2}
