"""The settings for the countries that an installation sends to and the length of its texts."""

from pathlib import Path

import pytest

from comms.platform.settings import SettingsError, load
from schemas.rules import ANYTHING, Policy
from schemas.vocabulary import Channel


def policies(tmp_path: Path, text: str) -> dict[Channel, Policy]:
    file = tmp_path / "comms.toml"
    file.write_text(text, encoding="utf-8")
    return dict(load({"COMMS_CONFIG": str(file), "COMMS_DATA_DIR": "none"}).policies)


def test_each_channel_has_its_own_policy_or_none(tmp_path: Path) -> None:
    settings = policies(
        tmp_path, '[sms]\ncountries = ["US", "CA"]\nparts = 6\n[voice]\ncountries = ["DE"]\n'
    )
    assert settings == {
        Channel.SMS: Policy(countries=frozenset({"US", "CA"}), parts=6),
        Channel.VOICE: Policy(countries=frozenset({"DE"})),
        Channel.EMAIL: ANYTHING,
        Channel.PUSH: ANYTHING,
    }


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[sms]\ncountries = "US"', "sms.countries"),
        ("[sms]\ncountries = []", "sms.countries"),
        ('[sms]\ncountries = ["US", "UK"]', "sms.countries"),
        ('[voice]\ncountries = ["us"]', "voice.countries"),
        ('[email]\ncountries = ["US"]', "email.countries"),
        ("[sms]\nparts = -1", "sms.parts"),
        ("[voice]\nparts = 2", "voice.parts"),
    ],
)
def test_a_wrong_policy_is_named_by_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        policies(tmp_path, text)
    assert caught.value.key == key
