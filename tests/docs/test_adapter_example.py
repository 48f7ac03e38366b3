"""The complete adapter of docs/adding-a-provider.md works: it passes the contract suite.

The page's code is installed as a package of its own, with the entry point that the page shows, and
built from the table that the page shows.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest

from comms.platform.settings import UnknownSettingError
from consumers.registry import has_idempotency_key
from schemas.vocabulary import Channel
from tests.consumers.contract.http_suite import Dialogue, NamingContract, Reply
from tests.consumers.contract.samples import only_provider, settings_with
from tests.provider_types import add_package

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
SOURCE = re.findall(r"^```python[^\n]*\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)[-1]
ENTRY, TABLE = (
    tomllib.loads(text)
    for text in re.findall(r"^```toml[^\n]*\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
)
((NAME, OBJECT),) = ENTRY["project"]["entry-points"]["comms.providers"].items()
(ACME,) = TABLE["sms"]["providers"]


@pytest.fixture(autouse=True)
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, name = OBJECT.partition(":")
    add_package(tmp_path, monkeypatch, module=module, source=SOURCE, names={NAME: name})


def error(status: int, code: str) -> Reply:
    return Reply(status, json.dumps({"error": code, "message": "no"}))


class TestAcme(NamingContract):
    dialogue = Dialogue(
        channel=Channel.SMS,
        table=ACME,
        environment={"ACME_API_KEY": "the key of the account"},
        accepted=lambda n: Reply(202, json.dumps({"id": f"acme-{n}"})),
        refused=error(422, "unknown_number"),
        transient=error(500, "trouble"),
        errors={
            "unknown_number": (error(422, "unknown_number"), "refused invalid_recipient"),
            "no_credit": (error(402, "no_credit"), "blocked"),
            "not listed": (error(400, "other"), "refused rejected"),
        },
        needs="ACME_API_KEY",
    )


def test_an_unknown_option_stops_the_process() -> None:
    with pytest.raises(UnknownSettingError, match="known: api_key_env, base_url, from, timeout_se"):
        only_provider(settings_with(Channel.SMS, {**ACME, "sender": "Acme"}), Channel.SMS)


def test_the_idempotency_key_is_declared() -> None:
    (provider,) = settings_with(Channel.SMS, ACME).channels[Channel.SMS].providers
    assert has_idempotency_key(Channel.SMS, provider)
