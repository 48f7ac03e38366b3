"""A plug-in of version 0.1, with `consumers.kinds.Kind` and no model, still works and warns."""

from pathlib import Path

import pytest

import consumers.kinds
from comms.platform.settings import MissingSecretError, SettingsError, UnknownSettingError
from consumers.registry import receipt_parsers
from consumers.sdk.provider_type import ProviderContext
from schemas.vocabulary import Channel
from tests.consumers.contract.samples import only_provider, settings_with
from tests.provider_types import add_package

OLD_SURFACE = """
import warnings

with warnings.catch_warnings(record=True) as WARNINGS:
    warnings.simplefilter("always")
    from consumers.kinds import Kind

from consumers.sdk.unconfigured import UnconfiguredProvider, UnconfiguredReceipts

def build(setup):
    options = setup.options
    options.others("webhook_env")
    key = options.secret("key_env", "OLD_KEY")
    token = options.optional_secret("token_env", "OLD_TOKEN")
    url = options.url("base_url", "https://old.example.com/")
    words = [options.text("from"), options.choice("speed", "slow", among=("slow", "fast"))]
    words += [options.optional_text("team") or "-", *options.texts("labels").values()]
    port, loud = options.number("port", 80, at_least=1), options.flag("loud", False)
    options.done()
    if key.value == "bad":
        raise options.wrong("key_env", "must be good")
    return UnconfiguredProvider(f"{url} {' '.join(words)} {port:g} {loud} {token}")

def receipts(setup, clock):
    return UnconfiguredReceipts(setup.options.text("from"))

OLD = Kind(build, receipts=receipts, knows_repeats=True)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A package with the type `old`; its module has a name of its own for each test."""
    module = f"old_{abs(hash(request.node.nodeid))}"
    names = {"sms.old": "OLD"}
    add_package(tmp_path, monkeypatch, module=module, source=OLD_SURFACE, names=names)
    return module


def built(table: dict[str, object], **environment: str) -> str:
    """Return the name of the adapter, in which the builder writes what it read."""
    settings = settings_with(Channel.SMS, {"name": "old", **table}, environment=environment)
    return only_provider(settings, Channel.SMS).name


def test_a_builder_reads_every_type_of_option(plugin: str) -> None:
    table = {
        "from": " Acme ",
        "speed": "fast",
        "team": "a",
        "labels": {"x": "y"},
        "webhook_env": "",
    }
    expected = "https://old.example.com Acme fast a y 99 True Secret(…)"
    assert built({**table, "port": 99, "loud": True}, OLD_KEY="k", OLD_TOKEN="t") == expected
    assert built({"from": "B"}, OLD_KEY="k") == "https://old.example.com B slow - 80 False None"
    (warning,) = __import__(plugin).WARNINGS
    assert warning.category is DeprecationWarning
    assert "consumers.sdk.ProviderType" in str(warning.message)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("from", ""),
        ("speed", "quick"),
        ("port", "x"),
        ("port", 0),
        ("loud", 1),
        ("labels", {"x": 1}),
        ("base_url", "http://old.example.com"),
    ],
)
@pytest.mark.usefixtures("plugin")
def test_a_wrong_value_names_its_key(option: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        built({"from": "B", option: value}, OLD_KEY="k")
    assert caught.value.key == f"sms.providers[old].{option}"


@pytest.mark.usefixtures("plugin")
def test_unknown_options_and_missing_secrets_are_reported_as_before() -> None:
    with pytest.raises(UnknownSettingError, match=r"sms.providers\[old\].frm: no such setting"):
        built({"from": "B", "frm": "C"})
    with pytest.raises(MissingSecretError, match=r"OLD_KEY: .*sms.providers\[old\].key_env"):
        built({"from": "B"})
    with pytest.raises(SettingsError, match="must be good"):
        built({"from": "B"}, OLD_KEY="bad")


@pytest.mark.usefixtures("plugin")
def test_receipts_read_the_same_table() -> None:
    settings = settings_with(Channel.SMS, {"name": "old", "from": "B"})
    assert (Channel.SMS, "old") in receipt_parsers(settings)


def test_every_former_name_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"0\.3\.0"):
        assert consumers.kinds.Setup is ProviderContext
    with pytest.raises(AttributeError, match="Other"):
        _ = consumers.kinds.Other
