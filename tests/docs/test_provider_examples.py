"""Every example of a provider's table in docs/providers.md is valid for its adapter.

The secrets are not set. Therefore a provider may be built, or may report that a secret is missing.
A wrong or unknown option fails the test. The same holds for the reader of its receipts.
"""

import re
from pathlib import Path

import pytest

from comms.platform.settings import load
from consumers import registry
from schemas.vocabulary import Channel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml[^\n]*\n(\[\[.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def sections() -> list[str]:
    """Return the text of each section that has a provider's options."""
    parts = re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)
    return [part for part in parts if "\n#### Options\n" in part]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[1])
def test_example_is_valid(example: str, tmp_path: Path) -> None:
    file = tmp_path / "comms.toml"
    file.write_text(example, encoding="utf-8")
    settings = load({"COMMS_CONFIG": str(file), "COMMS_DATA_DIR": str(tmp_path)})
    name = re.findall(r'^name = "(.*)"', example, flags=re.MULTILINE)[0]
    channel = Channel(re.findall(r"^\[\[(\w+)\.", example)[0])
    (provider,) = settings.channels[channel].providers
    _, missing = registry.build_or_unconfigured(channel, provider, settings)
    assert provider.name == name
    assert missing is None or "not set" in missing
    registry.receipt_parsers(settings)


def test_every_provider_type_has_a_section_with_an_example() -> None:
    types = {(channel, name) for channel in Channel for name in registry.PROVIDER_TYPES[channel]}
    shown = set[tuple[Channel, str]]()
    for example in EXAMPLES:
        channel = Channel(re.findall(r"^\[\[(\w+)\.", example)[0])
        named = re.findall(r'^(?:type|name) = "(\w+)"', example, flags=re.MULTILINE)
        shown.add((channel, named[-1]))
    simulated = {(channel, "simulated") for channel in Channel}
    assert shown | simulated == types | simulated
    assert ("sms", "simulated") in shown


def test_every_section_has_the_same_headings() -> None:
    headings = ["Set up", "Options", "Receipts", "What its answers mean", "Limits"]
    for section in sections():
        actual = re.findall(r"^#### (.*)", section, flags=re.MULTILINE)
        assert actual == headings, section.splitlines()[0]
    assert len(sections()) == len({*EXAMPLES}) - 1  # the simulated provider has two examples
