"""A channel's providers as its table of `comms.toml` names them: what is common to all kinds.

`comms.platform.settings` reads them once; the rest of each table is its adapter's to read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comms.platform.toml_config import SettingsError, number
from comms.platform.toml_config import table as table_of
from schemas.vocabulary import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One `[[CHANNEL.providers]]` table.

    Args:
        name: as it appears in events and metrics; kind: which adapter (the name, unless `type`).
        weight: share of the traffic among the channel's providers; 0 is used when no other can be.
        rate_limit: calls a second, of all processes together; None for no limit.
        options: the rest of the table, read by the adapter.
    """

    name: str
    kind: str
    weight: int = 100
    rate_limit: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


SIMULATED = (ProviderSettings(name="simulated", kind="simulated"),)


def providers(value: object, channel: Channel) -> tuple[ProviderSettings, ...]:
    """A channel's providers; the simulated one where nothing is said of any.

    Raises:
        SettingsError: it is no list of tables, or one of them is wrong.
    """
    if value is None:
        return SIMULATED
    if not isinstance(value, list):
        raise SettingsError(f"{channel}.providers", "write it as [[…]] tables")
    found = tuple(_provider(item, f"{channel}.providers[{n}]") for n, item in enumerate(value))
    if len({provider.name for provider in found}) != len(found):
        raise SettingsError(f"{channel}.providers", "two providers have the same name")
    return found


def with_simulated(
    configured: tuple[ProviderSettings, ...], *, known: bool
) -> tuple[ProviderSettings, ...]:
    """Where it is known where the simulated provider answers, every channel has it, for tests."""
    if not known or any("simulated" in (one.kind, one.name) for one in configured):
        return configured
    for_tests = ProviderSettings(
        name="simulated", kind="simulated", weight=0, options={"tests_only": True}
    )
    return (*configured, for_tests)


def _provider(value: object, key: str) -> ProviderSettings:
    table = dict(table_of(value, key))
    name = table.pop("name", None)
    if not isinstance(name, str) or not name:
        raise SettingsError(f"{key}.name", "missing")
    limit = table.pop("rate_limit", None)
    return ProviderSettings(
        name=name,
        kind=str(table.pop("type", name)),
        weight=int(number(table.pop("weight", 100), f"{key}.weight", at_least=0)),
        rate_limit=None if limit is None else number(limit, f"{key}.rate_limit", at_least=0.1),
        options=table,
    )
